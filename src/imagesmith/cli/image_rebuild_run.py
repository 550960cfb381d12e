"""The work of `imagesmith image rebuild`: finds the image and its plan, builds, compares, signs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from imagesmith.artifacts.disk_differences import disk_differences
from imagesmith.artifacts.disks import DiskError
from imagesmith.artifacts.image_differences import LayoutImage, image_differences
from imagesmith.artifacts.layout import LayoutError
from imagesmith.artifacts.referrers import Document, attach
from imagesmith.artifacts.shared import SharedStoreError
from imagesmith.builds.rebuild import Origin, RebuildFailed, RebuiltImage, rebuilt
from imagesmith.builds.stores import open_disks, open_exchange, open_layout
from imagesmith.cli.context import CommandFailed
from imagesmith.cli.image_rebuild import RebuildComparison
from imagesmith.cli.verify import signed_statement
from imagesmith.inspection.provenance import MEDIA_TYPE
from imagesmith.inspection.rebuild_plan import NoPlan, read_plan
from imagesmith.inspection.rebuild_statement import KIND, agreement
from imagesmith.inspection.signing import PublicKey, SigningError, SigningKey, public_key_path
from imagesmith.inspection.statements import VerificationFailed
from imagesmith.layers.entries import LayerError
from imagesmith.processes import Cancellation
from imagesmith.recipes.plan import BuildPlan
from imagesmith.settings import Settings

_MOST_LINES: Final = 200
_REFUSALS: Final = (SigningError, VerificationFailed, NoPlan)


def compare(settings: Settings, reference: str, key_file: Path | None, log_file: Path | None) -> RebuildComparison:
    """Build an image again and compare; the log of the build goes to `log_file`, also when it fails. Raises
    CommandFailed."""
    path = key_file or public_key_path(settings.data_dir)
    try:
        key = PublicKey.read(path)
        digest, statement = signed_statement(settings, reference, key)
        plan, parent = read_plan(statement)
        exchange = open_exchange(settings)
        origin = Origin(open_layout(settings, exchange), open_disks(settings, exchange))
        with rebuilt(settings, plan, parent, origin, cancellation=Cancellation()) as made:
            lines = _lines(origin, made, plan, digest) if made.digest != digest else ()
            signer = _attest(settings, origin, plan, digest) if made.digest == digest else ""
            found = RebuildComparison(
                image=plan.image_arn,
                original=digest,
                rebuilt=made.digest,
                differences=tuple(lines),
                attested=signer,
            )
            _write(log_file, made.log)
            return found
    except RebuildFailed as error:
        _write(log_file, error.log)
        raise CommandFailed(f"{reference} is not built again: {error}") from error
    except (DiskError, LayoutError, LayerError, SharedStoreError, *_REFUSALS) as error:
        raise CommandFailed(f"{reference} is not built again: {error}") from error


def _write(log_file: Path | None, log: str) -> None:
    if log_file is not None:
        log_file.write_text(log)


def _lines(origin: Origin, made: RebuiltImage, plan: BuildPlan, digest: str) -> Iterator[str]:
    if plan.image_kind.is_disk:
        found = disk_differences(origin.disks.whole(digest).path, made.disks.whole(made.digest).path)
    else:
        found = image_differences(LayoutImage(origin.layout, digest), LayoutImage(made.layout, made.digest))
    yield from islice(found, _MOST_LINES)
    left = sum(1 for _ in found)
    if left:
        yield f"and {left} more"


def _attest(settings: Settings, origin: Origin, plan: BuildPlan, digest: str) -> str:
    """Sign that a second build made the same bytes, and keep that beside the image; returns the id of the key."""
    key = SigningKey.open(settings.data_dir)
    envelope = key.envelope(json.dumps(agreement(plan, digest, key.public.id), sort_keys=True).encode())
    if plan.image_kind.is_disk:
        origin.disks.attach(digest, f"rebuild-{key.public.id[:16]}.json", envelope)
    else:
        attach(origin.layout, digest, Document(KIND, MEDIA_TYPE, envelope, {"imagesmith.rebuilder": key.public.id}))
    return key.public.id
