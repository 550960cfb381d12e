"""The outputs of a step with a loop: the joined outputs of its iterations (spec/components.md 7.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imagesmith.components.actions.base import MAX_OUTPUT
from imagesmith.components.scope import render


class JoinedOutputs:
    """Outputs of iterations, joined per key with newlines; a value that gets too long is cut, with a note."""

    def __init__(self) -> None:
        self._parts: list[dict[str, list[Any]]] = []
        self._sizes: dict[tuple[int, str], int] = {}

    def add(self, outputs: Sequence[Mapping[str, Any]]) -> None:
        for index, mapping in enumerate(outputs):
            if index == len(self._parts):
                self._parts.append({})
            for key, value in mapping.items():
                self._add(index, key, value)

    def _add(self, index: int, key: str, value: Any) -> None:
        size = self._sizes.get((index, key), 0)
        if size > MAX_OUTPUT:
            return
        length = len(value) if isinstance(value, str) else 1
        self._sizes[(index, key)] = size + length
        if size + length > MAX_OUTPUT and size:
            value = f"[output shortened: later iterations are left out after {MAX_OUTPUT} characters]"
        self._parts[index].setdefault(key, []).append(value)

    def values(self) -> list[Mapping[str, Any]]:
        """A single value keeps its type; several become one text."""
        return [
            {
                key: parts[0] if len(parts) == 1 else "\n".join(render(part) for part in parts)
                for key, parts in item.items()
            }
            for item in self._parts
        ]
