"""The tree of a document: raw scalar text, and the position of every node.

Nothing is typed here: `0777` stays `0777`, `1.0` stays `1.0` (spec/components.md 2.1). The reader of a field
converts it to the expected type.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from imagesmith.values.diagnostics import Position

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})


@dataclass(frozen=True, slots=True)
class ScalarNode:
    """A scalar as it was written. `block` marks `|` and `>` texts, whose content starts on the next line."""

    text: str
    position: Position
    plain: bool = True
    block: bool = False

    @property
    def is_null(self) -> bool:
        """`key:` and `key: ~` count as if the key were absent."""
        return self.plain and self.text in _NULLS

    def position_at(self, offset: int) -> Position:
        """The position of a character of the text; exact for block and one-line scalars, else the start."""
        before = self.text[:offset]
        if self.block:
            return Position(self.position.line + 1 + before.count("\n"), 1)
        if "\n" in self.text:
            return self.position
        return Position(self.position.line, self.position.column + offset + (0 if self.plain else 1))


@dataclass(frozen=True, slots=True)
class ListNode:
    """A list of a document."""

    items: tuple[Node, ...]
    position: Position


@dataclass(frozen=True, slots=True)
class MapNode:
    """A mapping of a document, its entries in their order."""

    entries: tuple[tuple[ScalarNode, Node], ...]
    position: Position

    def get(self, key: str) -> Node | None:
        """The value of a key; None when the key is absent or its value is empty."""
        for name, value in self.entries:
            if name.text == key:
                return None if isinstance(value, ScalarNode) and value.is_null else value
        return None

    def key(self, key: str) -> ScalarNode | None:
        return next((name for name, _ in self.entries if name.text == key), None)


Node: TypeAlias = ScalarNode | ListNode | MapNode
Data: TypeAlias = "str | Sequence[Data] | Mapping[str, Data]"
"""A node without its positions; every scalar is its source text."""


def to_data(node: Node) -> Data:
    """The plain value of a node. Entries of mappings with an empty value are omitted."""
    if isinstance(node, ScalarNode):
        return node.text
    if isinstance(node, ListNode):
        return [to_data(item) for item in node.items]
    return {
        key.text: to_data(value)
        for key, value in node.entries
        if not (isinstance(value, ScalarNode) and value.is_null)
    }


def scalars(node: Node) -> Iterator[ScalarNode]:
    """Every scalar value below a node, in order, without keys."""
    if isinstance(node, ScalarNode):
        yield node
    elif isinstance(node, ListNode):
        for item in node.items:
            yield from scalars(item)
    else:
        for _, value in node.entries:
            yield from scalars(value)


def kind_of(node: Node) -> str:
    """The word for the node in messages."""
    if isinstance(node, ScalarNode):
        return "a string"
    return "a list" if isinstance(node, ListNode) else "a mapping"
