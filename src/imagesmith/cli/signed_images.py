"""The image that `imagesmith image verify` is asked about, and the signed statements beside it.

NAME, ARN, digest        the layout, the shared store, the disks of machine images
ami-..., a file          a disk, and what lies beside it
HOST/REPOSITORY:TAG      a registry
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from imagesmith.artifacts.exchange import Exchange
from imagesmith.artifacts.intact import digest_of_path
from imagesmith.artifacts.layout import OciLayout
from imagesmith.artifacts.referrers import Referrer, attached
from imagesmith.artifacts.shared import NotShared
from imagesmith.builds.stores import open_exchange, open_layout
from imagesmith.cli.context import CommandFailed
from imagesmith.cli.disks import disk_store, find_ami
from imagesmith.cli.registry_images import RegistryImage, registry_image
from imagesmith.cli.store import opened_store
from imagesmith.distribution.companions import bundle_suffix
from imagesmith.distribution.referrers import fetch_referrers
from imagesmith.inspection.provenance import beside_disk
from imagesmith.inspection.sigstore import envelope_of
from imagesmith.inspection.statements import KINDS, Predicate, VerificationFailed
from imagesmith.settings import Settings
from imagesmith.store import amis
from imagesmith.values.arn import Arn, ArnError, slug_of

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_AMI = re.compile(r"ami-[0-9a-f]+")
_BUILD = re.compile(r"/([0-9]+)\.([0-9]+)\.([0-9]+)/([0-9]+)$")
_NEWEST = re.compile(r":([0-9]+)\.([0-9]+)\.([0-9]+)-([0-9]+)$")
Statements = tuple[tuple[Predicate, bytes], ...]
"""Envelopes by what they should say; from a registry in any order."""


@dataclass(frozen=True)
class SignedImage:
    """The image of a reference, and the statements beside it."""

    digest: str
    statements: Statements
    image: str = ""
    """The required ARN in its provenance; empty: any."""
    tag: str = ""
    """The name in the layout under which it was found; empty: it was not found by a name."""
    source: RegistryImage | None = None
    """Where in a registry it is; None: in the data directory."""


def find_image(settings: Settings, reference: str, wanted: Iterable[Predicate]) -> SignedImage:
    """The image and its statements of the wanted kinds. Raises VerificationFailed, DiskError, LayoutError,
    RegistryError, SharedStoreError, SigningError."""
    disk = _disk(settings, reference)
    if disk is not None:
        return _read_disk(settings, disk, wanted)
    host = reference.partition("/")[0]
    if "/" in reference and not reference.startswith("arn:") and (set(".:") & set(host) or host == "localhost"):
        return _read_registry(settings, reference, wanted)
    exchange = open_exchange(settings)
    layout = open_layout(settings, exchange)
    try:
        digest, tag = reference, ""
        if not _DIGEST.fullmatch(reference):
            digest, tag = _find_digest(layout, exchange, settings, reference)
    except VerificationFailed:
        disk = _built_disk(settings, reference)
        if disk is None:
            raise
        return _read_disk(settings, disk, wanted)
    _check_blobs(layout, digest)
    return SignedImage(digest, _statements(attached(layout, digest), wanted), tag=tag)


def name_of(image_arn: str) -> str:
    """The name in the layout of an image: `000000000000/us-east-1/web:1.0.0-1`. Raises VerificationFailed."""
    try:
        arn = Arn.parse(image_arn)
    except ArnError as error:
        raise VerificationFailed(f"the provenance names no image: {error}") from error
    return f"{arn.owner}/{arn.region}/{arn.slug}:{'-'.join(arn.path.split('/')[1:])}"


def _statements(documents: Iterable[Referrer], wanted: Iterable[Predicate]) -> Statements:
    kinds = {predicate.kind for predicate in wanted}
    held = [item.document for item in documents]
    return tuple((KINDS[item.kind], item.data) for item in held if item.kind in kinds)


@dataclass(frozen=True)
class _Disk:
    """A disk to verify."""

    digest: str
    image: str = ""
    """The ARN of the image that the disk must belong to; empty: any."""
    file: Path | None = None
    """The file, if it is one; its statements lie beside it."""


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
        return _Disk(digest_of_path(Path(reference)), file=Path(reference))
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


def _read_disk(settings: Settings, disk: _Disk, wanted: Iterable[Predicate]) -> SignedImage:
    """The statements beside a disk about its image, oldest first, and those beside the file."""
    known = disk_store(settings).documents(disk.digest)
    files: list[tuple[Predicate, Path]] = []
    bundles: list[tuple[Predicate, Path]] = []
    for predicate in wanted:
        exact = beside_disk(predicate, disk.image)
        start = exact if disk.image else f"{predicate.slug}-"
        files += [(predicate, file) for name, file in known.items() if name.startswith(start)]
        if disk.file is not None:
            bundles.append((predicate, disk.file.with_name(disk.file.name + bundle_suffix(predicate))))
    files.sort(key=lambda item: item[1].stat().st_mtime)
    statements = [(predicate, file.read_bytes()) for predicate, file in files]
    for predicate, file in bundles:
        if file.is_file():
            statements.append((predicate, envelope_of(file.read_bytes())))
    return SignedImage(disk.digest, tuple(statements), disk.image)


def _read_registry(settings: Settings, reference: str, wanted: Iterable[Predicate]) -> SignedImage:
    image = registry_image(settings, reference)
    documents = fetch_referrers(image.registry, image.repository, image.digest, {item.kind for item in wanted})
    return SignedImage(image.digest, _statements(documents, wanted), source=image)


def _find_digest(
    layout: OciLayout, exchange: Exchange | None, settings: Settings, reference: str
) -> tuple[str, str]:
    """The digest of an image by ARN or name, and its name in the layout; of several builds, the newest match."""
    account, region, slug, version = _parts(settings, reference)
    start = f"{account}/{region}/{slug}:{'-'.join(version)}"
    if len(version) == 2 and exchange is not None:
        with suppress(NotShared):
            return exchange.resolve(start), start
    fitting = [
        (tuple(map(int, match.groups())), digest, known)
        for known, digest in layout.references().items()
        if known == start or known.startswith(f"{start}-" if version else start)
        if (match := _NEWEST.search(known))
    ]
    if not fitting:
        raise VerificationFailed("there is no image of this name here; list them with: imagesmith image list")
    _, digest, tag = max(fitting)
    return digest, tag


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
            computed = digest_of_path(layout.path / "blobs" / "sha256" / name.removeprefix("sha256:"))
        except OSError as error:
            raise VerificationFailed(f"its blob {name} cannot be read: {error}") from error
        if computed != name:
            raise VerificationFailed(f"its blob {name} was changed: its bytes have the digest {computed}")
