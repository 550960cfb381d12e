"""Small shared texts: instants in the API's form, and digests."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any, Final

REGION: Final = r"[a-z][a-z0-9-]{0,62}"
"""The pattern of a Region's name, which is part of ARNs and of paths. Any name of this form may be used."""


def iso_instant(moment: datetime) -> str:
    """`2020-02-19T19:04:01.253Z`, the API's string dates (spec/api.md 2.2)."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def parse_instant(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def canonical_json(value: Any) -> str:
    """One text per value: keys sorted, no blanks."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def sha256_hex(data: bytes | str) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


def human_size(count: int) -> str:
    """`183.4 MiB`."""
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{count} B"


REASON_LIMIT: Final = 1024
"""Longest reason that is stored; the log has the rest."""


def shortened_reason(text: str) -> str:
    if len(text) <= REASON_LIMIT:
        return text
    return text[: REASON_LIMIT - 40].rstrip() + " ... (the build log has the rest)"
