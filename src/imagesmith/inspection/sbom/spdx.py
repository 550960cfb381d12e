"""The inventory as SPDX 2.3 JSON. Pure; the same bytes for the same image."""

from __future__ import annotations

import json
from typing import Any

from imagesmith import __version__
from imagesmith.inspection.inventory import Inventory, package_url
from imagesmith.inspection.packages import OsRelease, Package
from imagesmith.inspection.sbom import DescribedImage
from imagesmith.values.names import sha256_hex

_IMAGE = "SPDXRef-Image"
_UNKNOWN = "NOASSERTION"


def spdx_document(image: DescribedImage, inventory: Inventory) -> bytes:
    """The document's bytes: one package for the image, which contains all others."""
    packages = [_package(package, inventory.system) for package in inventory.packages]
    relations = [_relation("SPDXRef-DOCUMENT", "DESCRIBES", _IMAGE)]
    relations += [_relation(_IMAGE, "CONTAINS", package["SPDXID"]) for package in packages]
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": image.name,
        "documentNamespace": f"urn:imagesmith:spdx:{image.digest}",
        "creationInfo": {
            "created": image.created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "creators": [f"Tool: imagesmith-{__version__}"],
        },
        "packages": [_image(image), *packages],
        "relationships": relations,
    }
    return json.dumps(document, indent=1, ensure_ascii=False).encode(errors="replace") + b"\n"


def _image(image: DescribedImage) -> dict[str, Any]:
    return {
        "SPDXID": _IMAGE,
        "name": image.name,
        "versionInfo": image.digest,
        "primaryPackagePurpose": "CONTAINER",
        "downloadLocation": _UNKNOWN,
        "filesAnalyzed": False,
        "checksums": [{"algorithm": "SHA256", "checksumValue": image.hex}],
    }


def _package(package: Package, system: OsRelease) -> dict[str, Any]:
    url = package_url(package, system)
    identity = "|".join((url.to_string() if url else "", *package.order))
    shown: dict[str, Any] = {
        "SPDXID": f"SPDXRef-{package.kind}-{sha256_hex(identity)[:16]}",
        "name": package.name,
        "versionInfo": package.version,
        "downloadLocation": _UNKNOWN,
        "filesAnalyzed": False,
    }
    if url is not None:
        reference = {"referenceType": "purl", "referenceLocator": url.to_string()}
        shown["externalRefs"] = [{"referenceCategory": "PACKAGE-MANAGER", **reference}]
    if package.location:
        shown["sourceInfo"] = f"found in /{package.location}"
    elif package.source != package.name:
        shown["sourceInfo"] = f"built from {package.source} {package.source_version or package.version}"
    return shown


def _relation(subject: str, kind: str, thing: str) -> dict[str, str]:
    return {"spdxElementId": subject, "relationshipType": kind, "relatedSpdxElement": thing}
