"""`imagesmith image verify`: checks that an image was built here, and its provenance. Works without a server.

REFERENCE -> digest of the manifest -> its bytes -> provenance beside it -> signature -> subject
"""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from rich.markup import escape
from rich.table import Column, Table

from imagesmith.artifacts.disks import DiskError
from imagesmith.artifacts.exchange import Exchange
from imagesmith.artifacts.layout import LayoutError, OciLayout
from imagesmith.artifacts.referrers import Document, Referrer, attached
from imagesmith.artifacts.shared import NotShared, SharedStoreError
from imagesmith.builds.stores import open_exchange, open_layout
from imagesmith.cli.context import CommandFailed, data_dir_option, json_option, print_json, settings_of
from imagesmith.cli.disks import disk_store, find_ami
from imagesmith.cli.registry_images import RegistryImage, check_name, registry_image
from imagesmith.cli.screen import make_console
from imagesmith.cli.store import opened_store
from imagesmith.distribution.client import RegistryError
from imagesmith.distribution.companions import BUNDLE
from imagesmith.distribution.referrers import fetch_referrers
from imagesmith.inspection.provenance import (
    DISK_PROVENANCE,
    KIND,
    MEDIA_TYPE,
    Provenance,
    disk_provenance,
)
from imagesmith.inspection.provenance import verify as verify_envelope
from imagesmith.inspection.signing import PublicKey, SigningError, public_key_path
from imagesmith.inspection.sigstore import envelope_of
from imagesmith.inspection.statements import VerificationFailed
from imagesmith.settings import Settings
from imagesmith.store import amis
from imagesmith.values.arn import Arn, ArnError, slug_of

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_AMI = re.compile(r"ami-[0-9a-f]+")
_BUILD = re.compile(r"/([0-9]+)\.([0-9]+)\.([0-9]+)/([0-9]+)$")
_NEWEST = re.compile(r":([0-9]+)\.([0-9]+)\.([0-9]+)-([0-9]+)$")


@click.command()
@click.argument("reference")
@click.option(
    "--key", "key_file", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Public key to check with.  [default: the key of the data directory]",
)  # fmt: skip
@click.option(
    "--any-name", is_flag=True, help="Also accept an image of a registry that is signed under another name."
)
@data_dir_option
@json_option
def verify(reference: str, key_file: Path | None, any_name: bool, data_dir: Path, as_json: bool) -> None:
    """Check the signed provenance of an image, and show its builder, sources and build time.

    \b
    REFERENCE is a digest, an ARN, NAME, NAME/1.0.0, NAME/1.0.0/3, an AMI, the path of a
    copied or exported disk, or HOST/REPOSITORY:TAG in a registry.
    In a registry the signature must name HOST/REPOSITORY, see --any-name.
    The exit status is 1 if a check fails.
    Example:  imagesmith image verify web/1.0.0/1 --data-dir ./data
              imagesmith image verify ami-28e4df46c53949a3f --data-dir ./data
              imagesmith image verify registry.example:5000/web:1.0.0-1 --key ed25519.pub
    """
    settings = settings_of(data_dir)
    path = key_file or public_key_path(settings.data_dir)
    if not path.exists():
        hint = "name the folder of the server with --data-dir, or its public key with --key FILE"
        raise CommandFailed(f"{reference} is not verified: there is no public key {path}", hint)
    try:
        key = PublicKey.read(path)
        image = _find(settings, reference)
        found = _verified(image, key)
        if image.source is not None and not any_name:
            check_name(image.source, key)
    except (SigningError, DiskError, LayoutError, RegistryError, SharedStoreError, VerificationFailed) as error:
        raise CommandFailed(f"{reference} is not verified: {error}") from error
    if as_json:
        print_json(asdict(found))
        return
    make_console().print(_describe(found, path))


def _verified(found: SignedImage, key: PublicKey) -> Provenance:
    """The newest valid provenance; without one, the failure of the last."""
    problem = VerificationFailed(
        f"no provenance is attached to {found.digest}; it was not built here, or its provenance was removed"
    )
    for document in reversed(found.documents):
        try:
            held = verify_envelope(document.document.data, found.digest, (key,))
            if found.image in ("", held.image):
                return held
            problem = VerificationFailed(f"the provenance describes {held.image}, not {found.image}")
        except VerificationFailed as error:
            problem = error
    raise problem


@dataclass(frozen=True)
class SignedImage:
    """The image of a reference, and the provenances beside it."""

    digest: str
    documents: tuple[Referrer, ...]
    image: str = ""
    """The required ARN in them; empty: any."""
    source: RegistryImage | None = None
    """Where in a registry it is; None: in the data directory."""


def _find(settings: Settings, reference: str) -> SignedImage:
    disk = _disk(settings, reference)
    if disk is not None:
        return _read_disk(settings, disk)
    host = reference.partition("/")[0]
    if "/" in reference and not reference.startswith("arn:") and (set(".:") & set(host) or host == "localhost"):
        return _read_registry(settings, reference)
    exchange = open_exchange(settings)
    layout = open_layout(settings, exchange)
    try:
        digest = reference if _DIGEST.fullmatch(reference) else _find_digest(layout, exchange, settings, reference)
    except VerificationFailed:
        disk = _built_disk(settings, reference)
        if disk is None:
            raise
        return _read_disk(settings, disk)
    _check_blobs(layout, digest)
    return SignedImage(digest, attached(layout, digest, KIND))


@dataclass(frozen=True)
class _Disk:
    """A disk to verify."""

    digest: str
    image: str = ""
    """The ARN of the image that the disk must belong to; empty: any."""
    bundle: Path | None = None
    """The file beside it that may have its provenance."""


def _disk(settings: Settings, reference: str) -> _Disk | None:
    """The disk of an AMI, a digest or a file; None for other references."""
    if _AMI.fullmatch(reference):
        ami = find_ami(settings, reference)
        disk_store(settings).check(ami.digest)
        return _Disk(ami.digest, ami.image_arn)
    if _DIGEST.fullmatch(reference) and reference in disk_store(settings).digests():
        disk_store(settings).check(reference)
        return _Disk(reference)
    if Path(reference).is_file():
        with Path(reference).open("rb") as file:
            digest = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        return _Disk(digest, bundle=Path(reference + BUNDLE))
    return None


def _built_disk(settings: Settings, reference: str) -> _Disk | None:
    """The disk of a machine image by ARN or name; of several builds, the newest match."""
    account, region, slug, version = _parts(settings, reference)
    start = f":image/{'/'.join((slug, *version))}/"
    try:
        with opened_store(settings) as tx:
            known = amis.list_amis(tx, account=account, region=region)
    except CommandFailed:
        return None
    fitting = [
        (tuple(map(int, match.groups())), ami.digest, ami.image_arn)
        for ami in known
        if start in f"{ami.image_arn}/" and (match := _BUILD.search(ami.image_arn))
    ]
    if not fitting:
        return None
    _, digest, image = max(fitting)
    disk_store(settings).check(digest)
    return _Disk(digest, image)


def _read_disk(settings: Settings, disk: _Disk) -> SignedImage:
    """The provenances beside a disk about its image, oldest first, and the one beside the file."""
    known = disk_store(settings).documents(disk.digest)
    start = disk_provenance(disk.image) if disk.image else DISK_PROVENANCE
    files = [file for name, file in known.items() if name.startswith(start)]
    files.sort(key=lambda file: file.stat().st_mtime)
    envelopes = [file.read_bytes() for file in files]
    if disk.bundle is not None and disk.bundle.is_file():
        envelopes.append(envelope_of(disk.bundle.read_bytes()))
    documents = tuple(Referrer("", b"", Document(KIND, MEDIA_TYPE, data)) for data in envelopes)
    return SignedImage(disk.digest, documents, disk.image)


def _read_registry(settings: Settings, reference: str) -> SignedImage:
    image = registry_image(settings, reference)
    documents = fetch_referrers(image.registry, image.repository, image.digest, KIND)
    return SignedImage(image.digest, documents, source=image)


def _find_digest(layout: OciLayout, exchange: Exchange | None, settings: Settings, reference: str) -> str:
    """The digest of an image by ARN or name; of several builds, the newest match."""
    account, region, slug, version = _parts(settings, reference)
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
        raise VerificationFailed("there is no image of this name here; list them with: imagesmith image list")
    return max(fitting)[1]


def _parts(settings: Settings, reference: str) -> tuple[str, str, str, list[str]]:
    """Account, Region, slug and the parts of the version of an ARN or a name."""
    account, region, path = settings.account, settings.region, reference
    if reference.startswith("arn:"):
        try:
            arn = Arn.parse(reference)
        except ArnError as error:
            raise VerificationFailed(str(error)) from error
        account, region, path = arn.owner, arn.region, arn.path
    name, *version = path.split("/")
    return account, region, slug_of(name), version


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
    table = Table("", Column(overflow="fold"), show_header=False, box=None, pad_edge=False)
    table.add_row("[green]verified[/green]", found.digest)
    table.add_row("image", found.image)
    table.add_row("parent", escape(f"{found.parent} {found.parent_digest}".strip()))
    for component in found.components:
        table.add_row("component", component)
    table.add_row("built by", escape(f"{found.builder} (imagesmith {found.version})"))
    table.add_row("built at", f"{found.started} to {found.finished}")
    table.add_row("key", escape(f"{found.key[:16]} ({key})"))
    return table
