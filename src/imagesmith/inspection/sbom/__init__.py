"""The inventory of an image as documents that other tools read: the same bytes for the same image, always."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

CYCLONEDX_TYPE = "application/vnd.cyclonedx+json"
SPDX_TYPE = "application/spdx+json"


@dataclass(frozen=True)
class DescribedImage:
    """What a document is about. `created` is the time that the image's own configuration states."""

    name: str
    digest: str
    created: datetime

    @classmethod
    def of(cls, name: str, digest: str, created: str) -> DescribedImage:
        """`created` as an OCI configuration states it; the epoch when it states nothing that can be read."""
        try:
            # Nanoseconds are cut: the standard library reads six digits of a fraction at most.
            moment = datetime.fromisoformat(created[:19] + "+00:00") if created else datetime.fromtimestamp(0, UTC)
        except ValueError:
            moment = datetime.fromtimestamp(0, UTC)
        return cls(name, digest, moment)

    @property
    def hex(self) -> str:
        return self.digest.removeprefix("sha256:")
