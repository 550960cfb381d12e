"""`imagesmith image verify`: checks that an image was built here, its provenance, a policy. Needs no server.

REFERENCE -> digest of the manifest -> its bytes -> statements beside it -> signature -> subject -> name -> rules
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.markup import escape
from rich.table import Column, Table

from imagesmith.artifacts.disks import DiskError
from imagesmith.artifacts.layout import LayoutError
from imagesmith.artifacts.shared import SharedStoreError
from imagesmith.cli.context import CommandFailed, data_dir_option, json_option, print_json, settings_of
from imagesmith.cli.image_policies import JUDGED, evidence_of, read_policy, refuse_broken
from imagesmith.cli.registry_images import check_name
from imagesmith.cli.screen import make_console
from imagesmith.cli.signed_images import SignedImage, find_image, name_of
from imagesmith.distribution.client import RegistryError
from imagesmith.inspection.evidence import EARLIEST, finished_on
from imagesmith.inspection.image_policy import ImagePolicy, RuleVerdict, judge
from imagesmith.inspection.provenance import Provenance
from imagesmith.inspection.provenance import verify as verify_envelope
from imagesmith.inspection.signing import PublicKey, SigningError, public_key_path
from imagesmith.inspection.statements import Predicate, VerificationFailed
from imagesmith.settings import Settings


@click.command()
@click.argument("reference")
@click.option(
    "--key", "key_files", type=click.Path(path_type=Path, exists=True, dir_okay=False), multiple=True,
    help="Public key to check with; several after a rotation.  [default: the key of the data directory]",
)  # fmt: skip
@click.option("--any-name", is_flag=True, help="Also accept an image that was signed or built under another name.")
@click.option(
    "--policy", "policy_file", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="YAML file of rules that the image must fulfil; see docs/verify.md.",
)  # fmt: skip
@data_dir_option
@json_option
def verify(
    reference: str, key_files: tuple[Path, ...], any_name: bool, policy_file: Path | None, data_dir: Path,
    as_json: bool,
) -> None:  # fmt: skip
    """Check the signed provenance of an image, and show its builder, sources and build time.

    \b
    REFERENCE is a digest, an ARN, NAME, NAME/1.0.0, NAME/1.0.0/3, an AMI, the path of a
    copied or exported disk, or HOST/REPOSITORY:TAG in a registry.
    In a registry the signature must name HOST/REPOSITORY, and an image that is found by its
    name must have been built under it, see --any-name.
    The exit status is 1 if a check fails.
    Example:  imagesmith image verify web/1.0.0/1 --data-dir ./data
              imagesmith image verify ami-28e4df46c53949a3f --data-dir ./data
              imagesmith image verify registry.example:5000/web:1.0.0-1 --key ed25519.pub --policy prod.yaml
    """
    settings = settings_of(data_dir)
    policy = None if policy_file is None else read_policy(policy_file)
    paths = key_files or (public_key_path(settings.data_dir),)
    if not paths[0].exists():
        hint = "name the folder of the server with --data-dir, or its public key with --key FILE"
        raise CommandFailed(f"{reference} is not verified: there is no public key {paths[0]}", hint)
    wanted = (Predicate.PROVENANCE, *(JUDGED if policy else ()))
    try:
        keys = {key.id: (key, path) for path in paths for key in (PublicKey.read(path),)}
        image = find_image(settings, reference, wanted)
        found = _verified(image, [key for key, _ in keys.values()], any_name=any_name)
        signer, path = keys[found.key]
        if image.source is not None and not any_name:
            check_name(image.source, signer)
        verdicts = _judged(policy, found, image, signer)
    except (SigningError, DiskError, LayoutError, RegistryError, SharedStoreError, VerificationFailed) as error:
        raise CommandFailed(f"{reference} is not verified: {error}") from error
    if as_json:
        print_json({**asdict(found), **({"policy": [item.to_json() for item in verdicts]} if policy else {})})
    # nothing is called verified that a rule refuses
    refuse_broken(verdicts, reference)
    if not as_json:
        make_console().print(_describe(found, path, verdicts))


def signed_statement(settings: Settings, reference: str, key: PublicKey) -> tuple[str, Mapping[str, Any]]:
    """The digest of an image, and its verified statement. Raises as find_image() does, and VerificationFailed."""
    image = find_image(settings, reference, (Predicate.PROVENANCE,))
    return image.digest, _verified(image, [key], any_name=True).statement


def _verified(found: SignedImage, keys: Sequence[PublicKey], *, any_name: bool) -> Provenance:
    """The valid provenance of the latest build; without a valid one, the failure of the first."""
    problem = VerificationFailed(
        f"no provenance is attached to {found.digest}; it was not built here, or its provenance was removed"
    )
    valid: list[Provenance] = []
    for predicate, envelope in reversed(found.statements):
        if predicate is not Predicate.PROVENANCE:
            continue
        try:
            held = verify_envelope(envelope, found.digest, keys)
            if found.image not in ("", held.image):
                problem = VerificationFailed(f"the provenance describes {held.image}, not {found.image}")
            elif found.tag and not any_name and (name := name_of(held.image)) != found.tag:
                problem = VerificationFailed(
                    f"it was built as {name}, not as {found.tag}; --any-name checks the provenance alone"
                )
            else:
                valid.append(held)
        except VerificationFailed as error:
            problem = error
    if not valid:
        raise problem
    return max(valid, key=_finished)


def _finished(found: Provenance) -> datetime:
    return finished_on(Predicate.PROVENANCE, found.statement["predicate"]) or EARLIEST


def _judged(
    policy: ImagePolicy | None, found: Provenance, image: SignedImage, key: PublicKey
) -> tuple[RuleVerdict, ...]:
    if policy is None:
        return ()
    return judge(policy, evidence_of(found, image.statements, key), datetime.now(UTC))


def _describe(found: Provenance, key: Path, verdicts: Sequence[RuleVerdict]) -> Table:
    table = Table("", Column(overflow="fold"), show_header=False, box=None, pad_edge=False)
    table.add_row("[green]verified[/green]", found.digest)
    table.add_row("image", found.image)
    table.add_row("parent", escape(f"{found.parent} {found.parent_digest}".strip()))
    for component in found.components:
        table.add_row("component", component)
    table.add_row("built by", escape(f"{found.builder} (imagesmith {found.version})"))
    table.add_row("built at", f"{found.started} to {found.finished}")
    for verdict in verdicts:
        table.add_row(
            "policy" if verdict.holds else "[red]policy[/red]", escape(f"{verdict.rule}: {verdict.found}")
        )
    table.add_row("key", escape(f"{found.key[:16]} ({key})"))
    return table
