"""A root in memory, for readers that must take whatever stands in a file."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import BinaryIO


class MemoryFiles:
    """Files by their path, or by a function of it."""

    def __init__(
        self,
        content: Mapping[str, bytes] | Callable[[str], bytes | None],
        names: Sequence[str] | None = None,
    ) -> None:
        self._content = content
        self._names = names

    def open(self, path: str) -> BinaryIO | None:
        data = self._content(path) if callable(self._content) else self._content.get(path)
        return None if data is None else io.BytesIO(data)

    def names(self, path: str) -> Sequence[str]:
        if self._names is not None:
            return self._names
        if callable(self._content):
            return ()
        return sorted(
            name.removeprefix(f"{path}/")
            for name in self._content
            if name.startswith(f"{path}/") and "/" not in name.removeprefix(f"{path}/")
        )

    def exists(self, path: str) -> bool:
        return self.open(path) is not None or bool(self.names(path))

    def check(self) -> None:
        pass
