"""The inventory of an image as documents for other tools: always the same bytes for the same image."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from imagesmith.processes import Cancellation

CYCLONEDX_TYPE = "application/vnd.cyclonedx+json"
SPDX_TYPE = "application/spdx+json"


@dataclass(frozen=True)
class DescribedImage:
    """The image that a document describes. `created` is the time in the image's configuration."""

    name: str
    digest: str
    created: datetime
    supplier: str = ""
    """The organization that built it."""

    @classmethod
    def of(cls, name: str, digest: str, created: str, *, account: str = "") -> DescribedImage:
        """`created` is as in an OCI configuration; the epoch when it is unreadable."""
        try:
            # Nanoseconds are cut: the standard library reads six digits of a fraction at most.
            moment = datetime.fromisoformat(created[:19] + "+00:00") if created else datetime.fromtimestamp(0, UTC)
        except ValueError:
            moment = datetime.fromtimestamp(0, UTC)
        return cls(name, digest, moment, f"account {account}" if account else "")

    @property
    def hex(self) -> str:
        return self.digest.removeprefix("sha256:")


class Lines:
    """A list of many objects in a document, written object by object: the work can be cancelled at any of them."""

    def __init__(self, cancellation: Cancellation) -> None:
        self._cancellation = cancellation
        # One buffer: a hundred thousand small objects would leave the memory of the process in pieces.
        self._lines = io.BytesIO()

    def add(self, value: Mapping[str, Any]) -> None:
        """Raises Cancelled."""
        self._cancellation.check()
        self._lines.write(b",\n" if self._lines.tell() else b"")
        self._lines.write(orjson.dumps(value))

    def inside(self, document: Mapping[str, Any], name: str) -> bytes:
        """A JSON document with the list as its last member."""
        members = [b"%b: %b" % (orjson.dumps(key), orjson.dumps(value)) for key, value in document.items()]
        members.append(b"%b: [\n%b\n]" % (orjson.dumps(name), self._lines.getvalue()))
        return b"{\n%b\n}\n" % b",\n".join(members)
