"""Secret values: masked in everything that is logged or recorded (spec/components.md 4.5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

MASK: Final = "********"


class Secrets:
    """The secret values of a run so far. Lines of a secret are secret too, because logs are written by line."""

    def __init__(self) -> None:
        self._values: list[str] = []
        self.longest = 0
        """Bytes of the longest secret: the part of an unfinished line that must be held back."""

    def add(self, value: str) -> None:
        found = {value, value.strip(), *(line.strip() for line in value.splitlines())} - {""}
        self._values = sorted({*self._values, *found}, key=len, reverse=True)
        self.longest = max((len(value.encode("utf-8", "surrogateescape")) for value in self._values), default=0)

    def mask(self, text: str) -> str:
        for value in self._values:
            text = text.replace(value, MASK)
        return text

    def mask_data(self, data: Any) -> Any:
        """The same structure with every text masked; numbers whose text is a secret as well."""
        if not self._values:
            return data
        if isinstance(data, str):
            return self.mask(data)
        if isinstance(data, Mapping):
            return {key: self.mask_data(value) for key, value in data.items()}
        if isinstance(data, list | tuple):
            return [self.mask_data(item) for item in data]
        return MASK if str(data) in self._values and not isinstance(data, bool) else data
