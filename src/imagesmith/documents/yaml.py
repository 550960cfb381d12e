"""Text -> nodes: one YAML (or JSON) document, bounded, with a position on every node.

Built on the parser's events, not on its constructed values: no YAML 1.1 typing can change a scalar. PyYAML's C
parser reads a 64 KiB document in 8 ms, the Python parsers in 190 ms.

Bounds: bytes of the text, depth of nesting, and nodes and characters after aliases are expanded (an alias shares
its target's node, so memory grows only when the tree is written out: as JSON, or as the lines of a script).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml  # type: ignore[import-untyped]

from imagesmith.documents.nodes import ListNode, MapNode, Node, ScalarNode
from imagesmith.documents.silent_slips import shortened, silent_slips, unused_anchor
from imagesmith.documents.slips import find_slip
from imagesmith.values.diagnostics import Position, Problem

_STANDARD_TAG = "tag:yaml.org,2002:"
_TAGS = frozenset({"str", "int", "float", "bool", "null", "seq", "map"})
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_MERGE = "<<"
_PAIR = re.compile(r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})")


@dataclass(frozen=True)
class YamlLimits:
    """The bounds of a document."""

    text_bytes: int = 65536
    depth: int = 64
    nodes: int = 50_000
    characters: int = 1024 * 1024
    """Of all texts and keys, with aliases expanded."""
    aliases: bool = True
    """Whether anchors, aliases and merge keys are part of the language."""


@dataclass(frozen=True)
class LoadedYaml:
    """`root` is None when the text is unusable; then `problems` states why."""

    root: Node | None
    problems: tuple[Problem, ...] = ()


class _Unusable(Exception):
    """Reading cannot continue."""

    def __init__(self, code: str, message: str, position: Position | None = None, hint: str = "") -> None:
        self.problem = Problem(code, message, position, hint)
        super().__init__(message)


def load_yaml(text: str | bytes, *, limits: YamlLimits | None = None) -> LoadedYaml:
    """Read one document. Every defect of the text is a problem; nothing is raised."""
    bounds = limits or YamlLimits()
    try:
        decoded = _decode(text, bounds)
        composer, root = _compose(decoded, bounds)
    except _Unusable as error:
        return LoadedYaml(None, (error.problem,))
    except yaml.YAMLError as error:
        return LoadedYaml(None, (_syntax_problem(error, decoded),))
    return LoadedYaml(root, tuple(composer.problems))


def _compose(text: str, limits: YamlLimits) -> tuple[_Composer, Node]:
    composer = _Composer(limits)
    try:
        return composer, composer.compose(text)
    except yaml.YAMLError:
        # JSON writes a character beyond the first plane as two escapes, which YAML lacks. Only in JSON is
        # every such pair inside double quotes; elsewhere it may be the text of a script.
        joined = _PAIR.sub(_joined, text) if text.lstrip()[:1] in ("{", "[") else text
        if joined == text:
            raise
    composer = _Composer(limits)
    return composer, composer.compose(joined)


def _joined(match: re.Match[str]) -> str:
    code = 0x10000 + ((int(match[2], 16) - 0xD800) << 10) + (int(match[3], 16) - 0xDC00)
    return f"{match[1]}\\U{code:08X}"


def _decode(text: str | bytes, limits: YamlLimits) -> str:
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    try:
        decoded = data.decode("utf-8-sig")
    except UnicodeError as error:
        reason = error.reason  # type: ignore[attr-defined]
        hint = "it begins like UTF-16: save it as UTF-8" if data[:2] in _UTF16 else "save it as UTF-8"
        raise _Unusable("text-encoding", f"the text is not UTF-8: {reason}", hint=hint) from error
    if len(data) > limits.text_bytes:
        raise _Unusable(
            "document-too-long",
            f"the document has {len(data)} bytes; the limit is {limits.text_bytes}",
            hint="split it, or fetch long scripts with S3Download or WebDownload",
        )
    return decoded


def _syntax_problem(error: Any, text: str) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    position = Position(mark.line + 1, mark.column + 1) if mark is not None else None
    said = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
    context = getattr(error, "context", None)
    message = f"{context}: {said}" if context else str(said)
    context_mark = getattr(error, "context_mark", None)
    begun = Position(context_mark.line + 1, context_mark.column + 1) if context_mark is not None else None
    slip = find_slip(text, position, message, begun) if position is not None else None
    if slip is not None:
        return Problem("yaml-syntax", f"the text is not YAML: {message}", slip.position, slip.hint)
    hint = ""
    if "anchor" in message or "alias" in message:
        hint = "quote a string that starts with * or &"
    elif "flow" in message:
        hint = "quote a string that starts with {, [ or {{"
    elif "start any token" in message:
        hint = "quote the string, and indent with spaces"
    return Problem("yaml-syntax", f"the text is not YAML: {message}", position, hint)


@dataclass
class _Composer:
    """Makes nodes of the parser's events, within limits."""

    limits: YamlLimits
    problems: list[Problem] = field(default_factory=list)
    _anchors: dict[str, tuple[Node, int, int]] = field(default_factory=dict)
    """Name -> node, and its number of nodes and characters after expansion."""
    _used: set[str] = field(default_factory=set)
    _count: int = 0
    _characters: int = 0

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
                            "the text contains more than one document",
                            _position(event),
                            "remove the line '---' and what follows it",
                        )
                    root = self._node(next(events), events, 1)
            if root is None:
                raise _Unusable("yaml-empty", "the text contains no document")
            self.problems += self._unused_anchors()
            return root
        finally:
            parser.dispose()

    def _node(self, event: Any, events: Iterator[Any], depth: int) -> Node:
        position = _position(event)
        if depth > self.limits.depth:
            raise _Unusable("yaml-depth", f"nesting is deeper than {self.limits.depth} levels", position)
        self._grow(1, len(event.value) if isinstance(event, yaml.ScalarEvent) else 0, position)
        if not self.limits.aliases and getattr(event, "anchor", None) is not None:
            raise _Unusable(
                "yaml-alias",
                "anchors and aliases are not supported",
                position,
                "write the value out, or quote a string that starts with & or *",
            )
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, position)
        tagged = self._check_tag(event, position)
        before, characters = self._count, self._characters
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            plain = event.style in (None, "") and tagged != "str"
            folded = event.style != "|" and event.end_mark.line > event.start_mark.line
            self.problems += silent_slips(event.value, position, plain=plain, folded=folded)
            node = ScalarNode(event.value, position, plain, event.style in ("|", ">"))
        elif isinstance(event, yaml.SequenceStartEvent):
            items: list[Node] = []
            while not isinstance(item := next(events), yaml.SequenceEndEvent):
                items.append(self._node(item, events, depth + 1))
            node = ListNode(tuple(items), position)
        else:
            node = self._mapping(events, position, depth)
        if event.anchor is not None:
            # Registered only now: an alias inside its own anchor finds nothing, so no tree can contain itself.
            own = len(node.text) if isinstance(node, ScalarNode) else 0
            self._anchors[event.anchor] = (node, self._count - before + 1, self._characters - characters + own)
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
                        "a key must be a string",
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
                        f"the key '{shortened(key.text)}' appears twice, first on line {first}",
                        key.position,
                        "remove one of the two, or indent it where it belongs",
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
                self._grow(1, len(key.text), part.position)
                entries.setdefault(key.text, (key, value))

    def _unused_anchors(self) -> Iterator[Problem]:
        for name, (node, _, _) in self._anchors.items():
            if name not in self._used and isinstance(node, ScalarNode):
                yield unused_anchor(name, node.text, node.position)

    def _alias(self, event: Any, position: Position) -> Node:
        found = self._anchors.get(event.anchor)
        if found is None:
            raise _Unusable(
                "yaml-alias",
                f"the alias '*{shortened(event.anchor)}' has no anchor before it",
                position,
                "quote a string that starts with *",
            )
        self._used.add(event.anchor)
        self._grow(found[1], found[2], position)
        return found[0]

    def _grow(self, count: int, characters: int, position: Position) -> None:
        self._count += count
        self._characters += characters
        if self._characters > self.limits.characters:
            raise _Unusable(
                "yaml-size",
                f"the document has more than {self.limits.characters} characters, aliases counted",
                position,
            )
        if self._count > self.limits.nodes:
            raise _Unusable(
                "yaml-size", f"the document has more than {self.limits.nodes} nodes, aliases counted", position
            )

    def _check_tag(self, event: Any, position: Position) -> str:
        """The standard tag of a node, without its prefix; any other tag is an error."""
        tag = event.tag
        if tag is None:
            return ""
        name = str(tag).removeprefix(_STANDARD_TAG)
        if name in _TAGS:
            return name
        text = event.value if isinstance(event, yaml.ScalarEvent) else ""
        if tag.startswith("!"):
            first = " ".join(f"{tag} {text}".split())
            message = f"'{shortened(tag)}' at the beginning of a value is a YAML tag, and would be lost"
            self.problems.append(Problem("yaml-tag", message, position, f"quote the string: '{shortened(first)}'"))
        else:
            self.problems.append(Problem("yaml-tag", f"the tag '{shortened(tag)}' is not supported", position))
        return ""


def _events(parser: Any) -> Iterator[Any]:
    while parser.check_event():
        yield parser.get_event()


def _position(event: Any) -> Position:
    return Position(event.start_mark.line + 1, event.start_mark.column + 1)
