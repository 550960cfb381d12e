"""Base scores of CVSS vectors, versions 2 to 4, by the `cvss` library. Pure."""

from __future__ import annotations

from functools import lru_cache

from cvss import CVSS2, CVSS3, CVSS4, CVSSError

from imagesmith.inspection.scanning.severities import Cvss

_MAX_VECTOR = 512


def read_vector(vector: str, source: str) -> Cvss | None:
    """A vector as feeds write it: `CVSS:4.0/...`, `CVSS:3.1/...`, or one of version 2 with or without a prefix or
    parentheses. Without a score when a base metric is missing or wrong; None for any other text."""
    if len(vector) > _MAX_VECTOR:
        return None
    text = vector.strip().strip("()").rstrip("/")
    prefix, _, rest = text.partition("/")
    name, colon, version = prefix.partition(":")
    if name == "CVSS" and colon and rest:
        if version == "2.0":
            text = rest
        return Cvss(version, text, source, base_score(text))
    if name == "AV" and rest:
        return Cvss("2.0", text, source, base_score(text))
    return None


@lru_cache(maxsize=8192)
def base_score(vector: str) -> float | None:
    """0.0 to 10.0 in tenths; None for a vector that its version does not allow. Cached: feeds repeat a few."""
    kind = CVSS4 if vector.startswith("CVSS:4") else CVSS3 if vector.startswith("CVSS:3") else CVSS2
    try:
        return float(kind(vector).base_score)
    except (CVSSError, KeyError, ValueError, ArithmeticError, TypeError):
        return None
