"""`imagesmith image verify`: is this image what was built here, by whom, of what and when. Works without a server.

REFERENCE -> digest of the manifest -> its bytes -> provenance beside it -> signature -> subject
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import click
from rich.markup import escape
from rich.table import Table

from imagesmith.artifacts.disks import DiskError
from imagesmith.artifacts.exchange import Exchange
from imagesmith.artifacts.layout import LayoutError, OciLayout
from imagesmith.artifacts.referrers import Document, Referrer, attached
from imagesmith.artifacts.shared import NotShared, SharedStoreError
from imagesmith.cli.context import (
    CommandFailed,
    data_dir_option,
    json_option,
    make_console,
    print_json,
    settings_of,
)
from imagesmith.cli.disks import disk_store, find_ami
from imagesmith.distribution.client import RegistryError
from imagesmith.distribution.referrers import fetch_manifest, fetch_referrers
from imagesmith.inspection.provenance import KIND, MEDIA_TYPE, Provenance, VerificationFailed
from imagesmith.inspection.provenance import verify as verify_envelope
from imagesmith.inspection.signing import PublicKey, SigningError, public_key_path
from imagesmith.settings import Registry, Settings
from imagesmith.values.arn import slug_of
from imagesmith.workflows.inspection import DISK_PROVENANCE
from imagesmith.workflows.workshop import open_exchange, open_layout

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_AMI = re.compile(r"ami-[0-9a-f]+")
_NEWEST = re.compile(r":([0-9]+)\.([0-9]+)\.([0-9]+)-([0-9]+)$")


@click.command()
@click.argument("reference")
@click.option(
    "--key", "key_file", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Public key to check with, instead of that of the data directory.",
)  # fmt: skip
@data_dir_option
@json_option
def verify(reference: str, key_file: Path | None, data_dir: Path, as_json: bool) -> None:
    """Check that an image is what a build of this data directory made, and say who built it of what and when.

    \b
    REFERENCE is a digest, an ARN, NAME, NAME/1.0.0, NAME/1.0.0/3, an AMI, or HOST/REPOSITORY:TAG in a registry.
    Exit status 1 when anything does not fit.
    Example:  imagesmith image verify web/1.0.0/1 --data-dir ./data
              imagesmith image verify ami-28e4df46c53949a3f --data-dir ./data
              imagesmith image verify registry.example:5000/web:1.0.0-1 --key ed25519.pub
    """
    settings = settings_of(data_dir)
    path = key_file or public_key_path(settings.data_dir)
    try:
        key = PublicKey.read(path)
        digest, documents = _find(settings, reference)
        found = _verified(digest, documents, key)
    except (SigningError, DiskError, LayoutError, RegistryError, SharedStoreError, VerificationFailed) as error:
        raise CommandFailed(f"{reference} is not verified: {error}") from error
    if as_json:
        print_json(asdict(found))
        return
    make_console().print(_describe(found, path))


def _verified(digest: str, documents: Sequence[Referrer], key: PublicKey) -> Provenance:
    """The newest provenance that holds; when none does, why the last one does not."""
    problem = VerificationFailed(f"no provenance is attached to {digest}; it was not built here, or was stripped")
    for document in reversed(documents):
        try:
            return verify_envelope(document.document.data, digest, (key,))
        except VerificationFailed as error:
            problem = error
    raise problem


def _find(settings: Settings, reference: str) -> tuple[str, tuple[Referrer, ...]]:
    host = reference.partition("/")[0]
    if "/" in reference and not reference.startswith("arn:") and (set(".:") & set(host) or host == "localhost"):
        return _in_registry(settings, reference)
    disk = _disk(settings, reference)
    if disk:
        return disk, _of_disk(settings, disk)
    exchange = open_exchange(settings)
    layout = open_layout(settings, exchange)
    digest = reference if _DIGEST.fullmatch(reference) else _named(layout, exchange, settings, reference)
    _check_blobs(layout, digest)
    return digest, attached(layout, digest, KIND)


def _disk(settings: Settings, reference: str) -> str:
    """The digest of the disk that an AMI, or a digest, names; empty when it is about a container image."""
    if _AMI.fullmatch(reference):
        return find_ami(settings, reference).digest
    return reference if _DIGEST.fullmatch(reference) and reference in disk_store(settings).digests() else ""


def _of_disk(settings: Settings, digest: str) -> tuple[Referrer, ...]:
    store = disk_store(settings)
    store.check(digest)
    places = [place for name, place in store.documents(digest).items() if name.startswith(DISK_PROVENANCE)]
    places.sort(key=lambda place: place.stat().st_mtime)
    return tuple(Referrer("", b"", Document(KIND, MEDIA_TYPE, place.read_bytes())) for place in places)


def _in_registry(settings: Settings, reference: str) -> tuple[str, tuple[Referrer, ...]]:
    host, _, rest = reference.partition("/")
    repository, at, digest = rest.partition("@")
    tag = ""
    if not at:
        repository, _, tag = rest.rpartition(":") if ":" in rest else (rest, "", "latest")
    known = next((item for item in settings.registries.values() if item.url.split("/")[0] == host), None)
    registry = Registry(
        host,
        username=known.username if known else "",
        password_file=known.password_file if known else "",
        insecure=known.insecure if known else False,
    )
    manifest = fetch_manifest(registry, repository, digest or tag)
    computed = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    if digest and computed != digest:
        raise VerificationFailed(f"the registry gave a manifest of digest {computed}")
    return computed, fetch_referrers(registry, repository, computed, KIND)


def _named(layout: OciLayout, exchange: Exchange | None, settings: Settings, reference: str) -> str:
    """The digest of an image by ARN or name; of several builds, the newest that fits."""
    account, region, path = settings.account, settings.region, reference
    if reference.startswith("arn:"):
        _, _, _, region, account, resource = reference.split(":", 5)
        path = resource.partition("/")[2]
    name, *version = path.split("/")
    slug = slug_of(name)
    start = f"{account}/{region}/{slug}:{'-'.join(version)}"
    if len(version) == 2 and exchange is not None:
        with suppress(NotShared):
            return exchange.resolve(start)
    fitting = [
        (tuple(map(int, match.groups())), digest)
        for known, digest in layout.references().items()
        if known == start or known.startswith(f"{start}-" if version else start)
        if (match := _NEWEST.search(known))
    ]
    if not fitting:
        raise VerificationFailed("no image of this name is kept here; list them with: imagesmith image list")
    return max(fitting)[1]


def _check_blobs(layout: OciLayout, digest: str) -> None:
    """Read every blob of the image and compare it with its name. Raises LayoutError, VerificationFailed."""
    manifest = layout.manifest(digest)
    for part in (manifest["config"], *manifest["layers"]):
        name = str(part["digest"])
        try:
            with (layout.path / "blobs" / "sha256" / name.removeprefix("sha256:")).open("rb") as file:
                computed = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        except OSError as error:
            raise VerificationFailed(f"its blob {name} cannot be read: {error}") from error
        if computed != name:
            raise VerificationFailed(f"its blob {name} was changed: its bytes have the digest {computed}")


def _describe(found: Provenance, key: Path) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row("[green]verified[/green]", found.digest)
    table.add_row("image", found.image)
    table.add_row("parent", escape(f"{found.parent} {found.parent_digest}".strip()))
    for component in found.components:
        table.add_row("component", component)
    table.add_row("built by", f"{found.builder} (imagesmith {found.version})")
    table.add_row("built at", f"{found.started} to {found.finished}")
    table.add_row("key", f"{found.key[:16]} ({key})")
    return table
