"""The inventory as CycloneDX 1.6 JSON. Pure; a component a line, so that documents compare line by line.

The serial number comes from the digest of the image and the timestamp from its configuration, so that the document
depends on nothing but the image and the version of this program.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict

from imagesmith import __version__
from imagesmith.inspection.inventory import Inventory
from imagesmith.inspection.packages import OsRelease, Package
from imagesmith.inspection.purls import package_url
from imagesmith.inspection.sbom import DescribedImage, Lines
from imagesmith.inspection.suppliers import supplier_of
from imagesmith.processes import Cancellation

_SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"
_IMAGE, _SYSTEM = "image", "operating-system"


_Component = TypedDict(
    "_Component",
    {
        "type": str,
        "bom-ref": str,
        "name": str,
        "version": NotRequired[str],
        "description": NotRequired[str],
        "purl": NotRequired[str],
        "supplier": NotRequired[Mapping[str, object]],
        "licenses": NotRequired[Sequence[Mapping[str, str]]],
        "properties": NotRequired[Sequence[Mapping[str, str]]],
    },
)
"""A component of CycloneDX; the operating system is one."""


def cyclonedx_document(image: DescribedImage, inventory: Inventory, cancellation: Cancellation) -> bytes:
    """The document's bytes. Raises Cancelled."""
    references = [_SYSTEM] if inventory.system.id else []
    components = Lines(cancellation)
    if inventory.system.id:
        components.add(_system(inventory.system))
    for package in inventory.packages:
        component = _component(package, inventory.system)
        references.append(component["bom-ref"])
        components.add(component)
    head = {
        "$schema": _SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid.uuid5(uuid.NAMESPACE_OID, image.digest).urn,
        "version": 1,
        "metadata": _metadata(image),
        # The graph states no dependencies between packages: only the image and its contents.
        "dependencies": [{"ref": _IMAGE, "dependsOn": references}],
    }
    return components.inside(head, "components")


def _metadata(image: DescribedImage) -> Mapping[str, object]:
    about: dict[str, object] = {
        "type": "container",
        "bom-ref": _IMAGE,
        "name": image.name,
        "version": image.digest,
        "hashes": [{"alg": "SHA-256", "content": image.hex}],
    }
    if image.supplier:
        about["supplier"] = {"name": image.supplier}
    smith = {"type": "application", "bom-ref": "imagesmith", "name": "imagesmith", "version": __version__}
    return {"timestamp": image.created.isoformat(), "tools": {"components": [smith]}, "component": about}


def _system(system: OsRelease) -> _Component:
    shown: _Component = {"type": "operating-system", "bom-ref": _SYSTEM, "name": system.id}
    if system.version_id:
        shown["version"] = system.version_id
    if system.pretty:
        shown["description"] = system.pretty
    return shown


def _component(package: Package, system: OsRelease) -> _Component:
    url = package_url(package, system)
    identity = url or "|".join((package.kind, package.name, package.version, package.architecture, package.source))
    # One package may occur twice: in two folders, or as two streams of a module.
    reference = "#".join(part for part in (identity, package.location, package.module) if part)
    shown: _Component = {
        "type": "library", "name": package.name, "version": package.version, "bom-ref": reference,
    }  # fmt: skip
    if url:
        shown["purl"] = url
    supplier = supplier_of(package, system)
    if supplier is not None:
        contact = {"contact": [{"email": supplier.mail}]} if supplier.mail else {}
        shown["supplier"] = {"name": supplier.name, **contact}
    if package.license:
        shown["licenses"] = [{"expression": package.license}]
    properties = (
        ("imagesmith:location", package.location),
        ("imagesmith:source-version", package.source_version),
        ("imagesmith:owner", package.owner),
        ("imagesmith:module", package.module),
    )
    if any(value for _, value in properties):
        shown["properties"] = [{"name": name, "value": value} for name, value in properties if value]
    return shown
