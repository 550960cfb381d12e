"""The inventory as SPDX 2.3 JSON. Pure; the same bytes for the same image, a package a line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NotRequired, TypedDict

from imagesmith import __version__
from imagesmith.inspection.inventory import Inventory
from imagesmith.inspection.licenses import references_in
from imagesmith.inspection.packages import OsRelease, Package
from imagesmith.inspection.purls import package_url
from imagesmith.inspection.sbom import DescribedImage, Lines
from imagesmith.inspection.suppliers import supplier_of
from imagesmith.processes import Cancellation
from imagesmith.values.names import sha256_hex

_IMAGE = "SPDXRef-Image"
_UNKNOWN = "NOASSERTION"


class _Package(TypedDict):
    """A package of SPDX; the image is one."""

    SPDXID: str
    name: str
    versionInfo: str
    downloadLocation: str
    filesAnalyzed: bool
    supplier: str
    licenseConcluded: str
    licenseDeclared: str
    copyrightText: str
    primaryPackagePurpose: NotRequired[str]
    checksums: NotRequired[Sequence[Mapping[str, str]]]
    externalRefs: NotRequired[Sequence[Mapping[str, str]]]
    sourceInfo: NotRequired[str]


def spdx_document(image: DescribedImage, inventory: Inventory, cancellation: Cancellation) -> bytes:
    """The document's bytes: one package for the image, which contains all others. Raises Cancelled."""
    packages = Lines(cancellation)
    packages.add(_image(image))
    references: set[str] = set()
    relations = [_relation("SPDXRef-DOCUMENT", "DESCRIBES", _IMAGE)]
    for package in inventory.packages:
        shown = _package(package, inventory.system)
        packages.add(shown)
        references |= references_in(package.license)
        relations.append(_relation(_IMAGE, "CONTAINS", shown["SPDXID"]))
    head = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": image.name,
        "documentNamespace": f"urn:imagesmith:spdx:{image.digest}",
        "creationInfo": {
            "created": image.created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "creators": [f"Tool: imagesmith-{__version__}"],
        },
        **_named_licenses(references),
        "relationships": relations,
    }
    return packages.inside(head, "packages")


def _image(image: DescribedImage) -> _Package:
    return {
        "SPDXID": _IMAGE,
        "name": image.name,
        "versionInfo": image.digest,
        "primaryPackagePurpose": "CONTAINER",
        "downloadLocation": _UNKNOWN,
        "filesAnalyzed": False,
        "supplier": f"Organization: {image.supplier}" if image.supplier else _UNKNOWN,
        "licenseConcluded": _UNKNOWN,
        "licenseDeclared": _UNKNOWN,
        "copyrightText": _UNKNOWN,
        "checksums": [{"algorithm": "SHA256", "checksumValue": image.hex}],
    }


def _package(package: Package, system: OsRelease) -> _Package:
    url = package_url(package, system)
    identity = "|".join((url, *package.order, package.module))
    shown: _Package = {
        "SPDXID": f"SPDXRef-{package.kind}-{sha256_hex(identity)[:16]}",
        "name": package.name,
        "versionInfo": package.version,
        "downloadLocation": _UNKNOWN,
        "filesAnalyzed": False,
        "supplier": _supplier(package, system),
        # nobody looked into the files: the metadata states it
        "licenseConcluded": _UNKNOWN,
        "licenseDeclared": package.license or _UNKNOWN,
        "copyrightText": _UNKNOWN,
    }
    if url:
        reference = {"referenceType": "purl", "referenceLocator": url}
        shown["externalRefs"] = [{"referenceCategory": "PACKAGE-MANAGER", **reference}]
    if package.location:
        brought = f", brought by {package.owner}" if package.owner else ""
        shown["sourceInfo"] = f"found in /{package.location}{brought}"
    elif package.source not in ("", package.name):
        shown["sourceInfo"] = f"built from {package.source} {package.source_version or package.version}"
    return shown


def _supplier(package: Package, system: OsRelease) -> str:
    found = supplier_of(package, system)
    if found is None:
        return _UNKNOWN
    kind = "Organization" if found.is_organization else "Person"
    return f"{kind}: {found.name} ({found.mail})" if found.mail else f"{kind}: {found.name}"


def _named_licenses(references: Iterable[str]) -> Mapping[str, Sequence[Mapping[str, str]]]:
    """What the document says of licences without an SPDX id: no more than their names, as they were stated."""
    entries = [
        {
            "licenseId": reference,
            "name": reference.removeprefix("LicenseRef-"),
            "extractedText": f"The image names this licence {reference.removeprefix('LicenseRef-')}.",
        }
        for reference in sorted(references)
    ]
    return {"hasExtractedLicensingInfos": entries} if entries else {}


def _relation(subject: str, kind: str, thing: str) -> dict[str, str]:
    return {"spdxElementId": subject, "relationshipType": kind, "relatedSpdxElement": thing}
