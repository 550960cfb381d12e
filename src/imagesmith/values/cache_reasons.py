"""Why a result of an earlier build is not used, in words. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def changed_names(old: Mapping[str, Any], new: Mapping[str, Any], shown: Mapping[str, str]) -> list[str]:
    """Names of the inputs that differ, as `shown` has them; of maps, the names in them."""
    found = []
    for name in sorted({*old, *new}):
        before, after = old.get(name), new.get(name)
        if before == after:
            continue
        if isinstance(before, Mapping) or isinstance(after, Mapping):
            was, now = _members(before), _members(after)
            found += [f"{name} {key}" for key in sorted({*was, *now}) if was.get(key) != now.get(key)]
        else:
            found.append(shown.get(name, name))
    return found


def _members(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def age_text(seconds: float) -> str:
    """`2.5 h`, or `7 min`."""
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{max(seconds, 0) / 60:.0f} min"
