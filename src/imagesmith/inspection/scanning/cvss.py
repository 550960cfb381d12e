"""Base scores of CVSS v3.0 and v3.1 vectors, by the formulas of the specification (sections 7.1 and 7.4). Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

from imagesmith.inspection.scanning.findings import Cvss

_WEIGHTS: Mapping[str, Mapping[str, float]] = {
    "AV": {"N": 0.85, "A": 0.62, "L": 0.55, "P": 0.2},
    "AC": {"L": 0.77, "H": 0.44},
    "UI": {"N": 0.85, "R": 0.62},
    "C": {"H": 0.56, "L": 0.22, "N": 0.0},
    "I": {"H": 0.56, "L": 0.22, "N": 0.0},
    "A": {"H": 0.56, "L": 0.22, "N": 0.0},
}
_PRIVILEGES = {
    "U": {"N": 0.85, "L": 0.62, "H": 0.27},
    "C": {"N": 0.85, "L": 0.68, "H": 0.5},
}
_MAX_VECTOR = 512


def read_vector(vector: str, source: str) -> Cvss | None:
    """A vector as feeds write it (`CVSS:3.1/AV:N/...`); without a score for other versions; None for no vector."""
    prefix, _, rest = vector.partition("/")
    name, colon, version = prefix.partition(":")
    if name != "CVSS" or not colon or not rest or len(vector) > _MAX_VECTOR:
        return None
    return Cvss(version, vector, source, base_score(vector) if version in ("3.0", "3.1") else None)


def base_score(vector: str) -> float | None:
    """0.0 to 10.0 in tenths; None when a base metric is missing or unknown."""
    metrics = dict(part.partition(":")[::2] for part in vector.split("/")[1:])
    try:
        weight = {name: table[metrics[name]] for name, table in _WEIGHTS.items()}
        changed = metrics["S"] == "C"
        privileges = _PRIVILEGES[metrics["S"]][metrics["PR"]]
    except KeyError:
        return None
    base = 1 - (1 - weight["C"]) * (1 - weight["I"]) * (1 - weight["A"])
    impact = 7.52 * (base - 0.029) - 3.25 * (base - 0.02) ** 15 if changed else 6.42 * base
    if impact <= 0:
        return 0.0
    exploitability = 8.22 * weight["AV"] * weight["AC"] * privileges * weight["UI"]
    return _rounded_up(min((1.08 if changed else 1.0) * (impact + exploitability), 10.0))


def _rounded_up(value: float) -> float:
    """To the next tenth, in whole numbers, so that 4.02 never becomes 4.1 by a floating-point error."""
    whole = round(value * 100_000)
    return whole / 100_000 if whole % 10_000 == 0 else (math.floor(whole / 10_000) + 1) / 10
