"""The inventory as CycloneDX 1.6 JSON. Pure.

The serial number comes from the digest of the image and the timestamp from its configuration, so that the document
depends on nothing but the image and the version of this program.
"""

from __future__ import annotations

import uuid

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6

from imagesmith import __version__
from imagesmith.inspection.inventory import Inventory, package_url
from imagesmith.inspection.packages import OsRelease, Package
from imagesmith.inspection.sbom import DescribedImage


def cyclonedx_document(image: DescribedImage, inventory: Inventory) -> bytes:
    """The document's bytes."""
    about = Component(
        name=image.name,
        type=ComponentType.CONTAINER,
        version=image.digest,
        bom_ref="image",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=image.hex)],
    )
    smith = Component(name="imagesmith", type=ComponentType.APPLICATION, version=__version__, bom_ref="imagesmith")
    components = [_component(package, inventory.system) for package in inventory.packages]
    system = _system(inventory.system)
    bom = Bom(
        serial_number=uuid.uuid5(uuid.NAMESPACE_OID, image.digest),
        metadata=BomMetaData(timestamp=image.created, component=about, tools=ToolRepository(components=[smith])),
        components=[*system, *components],
    )
    # Nothing is said about what depends on what: the graph names the image and all that it holds, no more.
    bom.register_dependency(about, [*system, *components])
    return JsonV1Dot6(bom).output_as_string(indent=1).encode() + b"\n"


def _system(system: OsRelease) -> list[Component]:
    if not system.id:
        return []
    return [
        Component(
            name=system.id,
            type=ComponentType.OPERATING_SYSTEM,
            version=system.version_id or None,
            description=system.pretty or None,
            bom_ref="operating-system",
        )
    ]


def _component(package: Package, system: OsRelease) -> Component:
    url = package_url(package, system)
    reference = "|".join((package.kind, package.name, package.version, package.architecture, package.source))
    properties = [Property(name="imagesmith:location", value=package.location)] if package.location else []
    if package.source_version:
        properties.append(Property(name="imagesmith:source-version", value=package.source_version))
    return Component(
        name=package.name,
        version=package.version,
        purl=url,
        # One package may be there twice, in two folders.
        bom_ref=f"{url or reference}{'#' * bool(package.location)}{package.location}",
        properties=properties,
    )
