"""The table of destinations: a new one is a module in destinations/ and a row here."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final, Literal

from imagesmith.distribution.destination import Delivery, Destination
from imagesmith.distribution.destinations.catalog_region import CatalogRegion
from imagesmith.distribution.destinations.embedded_layout import EmbeddedLayout
from imagesmith.distribution.destinations.machine_host import MachineHosts
from imagesmith.distribution.destinations.registry import RegistryRepository
from imagesmith.distribution.destinations.s3_export import S3Export

Subject = Literal["container image", "AMI", "disk export"]

DESTINATIONS: Final = MappingProxyType[Subject, tuple[Destination, ...]](
    {
        "container image": (EmbeddedLayout(), RegistryRepository()),
        "AMI": (CatalogRegion(), MachineHosts()),
        "disk export": (S3Export(),),
    }
)
"""A container image goes to the first destination that accepts it, an AMI to each that accepts it, in this order;
a disk goes to the exports whose member is in a distribution entry."""


def accepting(subject: Subject, delivery: Delivery) -> tuple[Destination, ...]:
    """The destinations that accept a delivery."""
    return tuple(item for item in DESTINATIONS[subject] if item.accepts(delivery))
