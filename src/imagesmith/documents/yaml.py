"""Text -> nodes: one YAML (or JSON) document, bounded, with a position on every node.

Built on the parser's events, not on its constructed values: no YAML 1.1 typing can change a scalar. The C parser
of PyYAML is used because a 64 KiB document takes it 8 ms where the Python parsers take 190 ms.

Bounds: bytes of the text, depth of nesting, and nodes after aliases are expanded (an alias shares its target's
node, so the count, not the memory, is what a chain of aliases blows up).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml  # type: ignore[import-untyped]

from imagesmith.documents.nodes import ListNode, MapNode, Node, ScalarNode
from imagesmith.values.diagnostics import Position, Problem

_STANDARD_TAG = "tag:yaml.org,2002:"
_MERGE = "<<"
_PAIR = re.compile(r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")


@dataclass(frozen=True)
class Limits:
    """What a document may cost."""

    text_bytes: int = 65536
    depth: int = 64
    nodes: int = 50_000
    aliases: bool = True
    """Whether anchors, aliases and merge keys are part of the language."""


@dataclass(frozen=True)
class Loaded:
    """`root` is None when the text is unusable; then `problems` says why."""

    root: Node | None
    problems: tuple[Problem, ...] = ()


class _Unusable(Exception):
    """Reading cannot go on."""

    def __init__(self, code: str, message: str, position: Position | None = None, hint: str = "") -> None:
        self.problem = Problem(code, message, position, hint)
        super().__init__(message)


def load_yaml(text: str | bytes, *, limits: Limits | None = None) -> Loaded:
    """Read one document. Every defect of the text is a problem; nothing is raised."""
    bounds = limits or Limits()
    try:
        decoded = _decode(text, bounds)
        composer, root = _compose(decoded, bounds)
    except _Unusable as error:
        return Loaded(None, (error.problem,))
    except yaml.YAMLError as error:
        return Loaded(None, (_syntax_problem(error),))
    return Loaded(root, tuple(composer.problems))


def _compose(text: str, limits: Limits) -> tuple[_Composer, Node]:
    composer = _Composer(limits)
    try:
        return composer, composer.compose(text)
    except yaml.YAMLError:
        # JSON writes a character beyond the first plane as two escapes, which YAML does not know. Only in JSON is
        # every such pair inside double quotes; elsewhere it may be the text of a script.
        joined = _PAIR.sub(_joined, text) if text.lstrip()[:1] in ("{", "[") else text
        if joined == text:
            raise
    composer = _Composer(limits)
    return composer, composer.compose(joined)


def _joined(match: re.Match[str]) -> str:
    code = 0x10000 + ((int(match[2], 16) - 0xD800) << 10) + (int(match[3], 16) - 0xDC00)
    return f"{match[1]}\\U{code:08X}"


def _decode(text: str | bytes, limits: Limits) -> str:
    try:
        data = text.encode() if isinstance(text, str) else text
        decoded = data.decode("utf-8-sig")
    except UnicodeError as error:
        raise _Unusable("text-encoding", f"the text is not UTF-8: {error.reason}") from error  # type: ignore[attr-defined]
    if len(data) > limits.text_bytes:
        raise _Unusable(
            "document-too-long",
            f"the document has {len(data)} bytes; the limit is {limits.text_bytes}",
            hint="split it, or fetch long scripts with S3Download or WebDownload",
        )
    return decoded


def _syntax_problem(error: Any) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    position = Position(mark.line + 1, mark.column + 1) if mark is not None else None
    said = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
    context = getattr(error, "context", None)
    message = f"{context}: {said}" if context else str(said)
    hint = ""
    if "anchor" in message or "alias" in message:
        hint = "quote a text that begins with * or &"
    elif "flow" in message:
        hint = "quote a text that begins with {, [ or {{"
    elif "start any token" in message:
        hint = "quote the text, and indent with spaces"
    return Problem("yaml-syntax", f"the text is not YAML: {message}", position, hint)


@dataclass
class _Composer:
    limits: Limits
    problems: list[Problem] = field(default_factory=list)
    _anchors: dict[str, tuple[Node, int]] = field(default_factory=dict)
    _count: int = 0

    def compose(self, text: str) -> Node:
        loader = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
        parser = loader(text)
        try:
            events = _events(parser)
            root: Node | None = None
            for event in events:
                if isinstance(event, yaml.DocumentStartEvent):
                    if root is not None:
                        raise _Unusable(
                            "yaml-many-documents",
                            "the text holds more than one document",
                            _place(event),
                            "remove the line '---' and what follows it",
                        )
                    root = self._node(next(events), events, 1)
            if root is None:
                raise _Unusable("yaml-empty", "the text holds no document")
            return root
        finally:
            parser.dispose()

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> Node:
        position = _place(event)
        if depth > self.limits.depth:
            raise _Unusable("yaml-depth", f"nesting is deeper than {self.limits.depth} levels", position)
        self._grow(1, position)
        if not self.limits.aliases and getattr(event, "anchor", None) is not None:
            raise _Unusable(
                "yaml-alias",
                "anchors and aliases are not part of this language",
                position,
                "write the value out, or quote a text that begins with & or *",
            )
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, position)
        self._check_tag(event, position)
        before = self._count
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = ScalarNode(event.value, position, event.style in (None, ""), event.style in ("|", ">"))
        elif isinstance(event, yaml.SequenceStartEvent):
            items: list[Node] = []
            while not isinstance(item := next(events), yaml.SequenceEndEvent):
                items.append(self._node(item, events, depth + 1))
            node = ListNode(tuple(items), position)
        else:
            node = self._mapping(events, position, depth)
        if event.anchor is not None:
            # Registered only now: an alias inside its own anchor finds nothing, so no tree can contain itself.
            self._anchors[event.anchor] = (node, self._count - before + 1)
        return node

    def _mapping(self, events: Iterator[Any], position: Position, depth: int) -> MapNode:
        entries: dict[str, tuple[ScalarNode, Node]] = {}
        merged: list[Node] = []
        while not isinstance(item := next(events), yaml.MappingEndEvent):
            key = self._node(item, events, depth + 1)
            value = self._node(next(events), events, depth + 1)
            if not isinstance(key, ScalarNode):
                self.problems.append(
                    Problem(
                        "yaml-key",
                        "a key must be a text",
                        position,
                        "quote a value that begins with {{, as in '{{ Name }}'",
                    )
                )
            elif key.text == _MERGE and key.plain:
                merged.append(value)
            elif key.text in entries:
                first = entries[key.text][0].position.line
                self.problems.append(
                    Problem(
                        "yaml-duplicate-key",
                        f"the key '{_short(key.text)}' stands twice, first on line {first}",
                        key.position,
                    )
                )
            else:
                entries[key.text] = (key, value)
        for source in merged:
            self._merge(entries, source)
        return MapNode(tuple(entries.values()), position)

    def _merge(self, entries: dict[str, tuple[ScalarNode, Node]], source: Node) -> None:
        sources = source.items if isinstance(source, ListNode) else (source,)
        for part in sources:
            if not isinstance(part, MapNode):
                self.problems.append(Problem("yaml-merge", "'<<' needs a mapping", part.position))
                continue
            for key, value in part.entries:
                self._grow(1, part.position)
                entries.setdefault(key.text, (key, value))

    def _alias(self, event: Any, position: Position) -> Node:
        found = self._anchors.get(event.anchor)
        if found is None:
            raise _Unusable(
                "yaml-alias",
                f"the alias '*{_short(event.anchor)}' names no anchor before it",
                position,
                "quote a text that begins with *",
            )
        self._grow(found[1], position)
        return found[0]

    def _grow(self, count: int, position: Position) -> None:
        self._count += count
        if self._count > self.limits.nodes:
            raise _Unusable(
                "yaml-size", f"the document has more than {self.limits.nodes} nodes, aliases counted", position
            )

    def _check_tag(self, event: Any, position: Position) -> None:
        tag = event.tag
        if tag is not None and tag != "!" and not tag.startswith(_STANDARD_TAG):
            self.problems.append(Problem("yaml-tag", f"the tag '{_short(tag)}' is not supported", position))


def _events(parser: Any) -> Iterator[Any]:
    while parser.check_event():
        yield parser.get_event()


def _place(event: Any) -> Position:
    return Position(event.start_mark.line + 1, event.start_mark.column + 1)


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
