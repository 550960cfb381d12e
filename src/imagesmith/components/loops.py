"""Loops: their parser, and their iterations (spec/components.md 7)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from imagesmith.components.model import CountedLoop, ListLoop, Loop, SplitLoop
from imagesmith.documents.fields import Fields
from imagesmith.documents.nodes import ListNode, MapNode, ScalarNode, kind_of
from imagesmith.values.diagnostics import Problem
from imagesmith.values.expansion import TooLarge

DELIMITERS: Final = (".", ",", ";", ":", "\n", "\t", " ", "-", "_")
MAX_ITERATIONS: Final = 100_000
NAME: Final = re.compile(r"[A-Za-z0-9_-]{3,128}\Z")


@dataclass(frozen=True)
class Iteration:
    """One pass. `index` counts from 0."""

    index: int
    value: str


def parse_loop(node: MapNode, problems: list[Problem], subject: str) -> Loop | None:
    """Read the `loop` of a step; None when it is unusable, with the reasons in `problems`."""
    fields = Fields(node, problems, f"{subject} loop")
    fields.check_keys(("name", "for", "forEach"))
    name = fields.scalar("name")
    if name is not None and name.text and (not NAME.match(name.text) or name.text == "loop"):
        fields.problem(
            "wrong-name",
            f"the loop name '{name.text[:80]}' must have 3 to 128 letters, digits, '-' or '_', and not be 'loop'",
            name.position,
        )
    counted, each = node.get("for"), node.get("forEach")
    if (counted is None) == (each is None):
        fields.problem("loop-kind", "exactly one of 'for' and 'forEach' is needed")
        return None
    source: CountedLoop | ListLoop | SplitLoop | None
    if counted is not None:
        source = _parse_counted(fields.mapping("for"), problems, subject)
    elif isinstance(each, ListNode):
        source = _parse_list(each, fields)
    elif isinstance(each, MapNode):
        source = _parse_split(each, problems, subject)
    else:
        source = None
        fields.problem("wrong-type", "'forEach' must be a list, or a mapping with 'list'", each)
    return None if source is None else Loop("" if name is None else name.text, source, node.position)


def loop_values(loop: Loop, resolve: Callable[[str], str]) -> Sequence[str | int]:
    """The values of a loop's passes; texts of `forEach` are resolved here, once for the whole step
    (spec/components.md 4.3).

    Raises TooLarge, and the exceptions of `resolve`.
    """
    source = loop.source
    if isinstance(source, CountedLoop):
        return range(source.start, source.end + (1 if source.update_by > 0 else -1), source.update_by)
    if isinstance(source, ListLoop):
        return [resolve(item) for item in source.items]
    text = resolve(source.text)
    if text.count(source.delimiter) >= MAX_ITERATIONS:
        raise TooLarge(f"the list of the loop has more than {MAX_ITERATIONS} items")
    return text.split(source.delimiter) if text else []


def loop_record(loop: Loop | None) -> Mapping[str, Any] | None:
    """The loop as detailedoutput.json shows it."""
    if loop is None:
        return None
    source = loop.source
    if isinstance(source, CountedLoop):
        counted = {"start": source.start, "end": source.end, "updateBy": source.update_by}
        content: Mapping[str, object] = {"for": counted}
    elif isinstance(source, ListLoop):
        content = {"forEach": list(source.items)}
    else:
        content = {"forEach": {"list": source.text, "delimiter": source.delimiter}}
    return {"name": loop.name, **content}


def _parse_counted(node: MapNode | None, problems: list[Problem], subject: str) -> CountedLoop | None:
    if node is None:
        return None
    before = len(problems)
    fields = Fields(node, problems, f"{subject} loop.for")
    fields.check_keys(("start", "end", "updateBy"))
    for key in ("start", "end", "updateBy"):
        fields.required(key)
    start, end = fields.integer("start", default=0), fields.integer("end", default=0)
    step = fields.integer("updateBy", default=1)
    if len(problems) > before:
        return None
    if step == 0:
        fields.problem("loop-bounds", "'updateBy' must not be 0")
        return None
    if (end - start) * step < 0:
        fields.problem(
            "loop-bounds",
            f"counting from {start} by {step} never reaches {end}",
            hint="change the sign of 'updateBy'",
        )
        return None
    passes = (end - start) // step + 1
    if passes > MAX_ITERATIONS:
        fields.problem(
            "loop-bounds",
            f"counting from {start} to {end} by {step} takes {passes} iterations, the limit is {MAX_ITERATIONS}",
            hint="loop in the script instead",
        )
        return None
    return CountedLoop(start, end, step)


def _parse_list(node: ListNode, fields: Fields) -> ListLoop | None:
    items: list[str] = []
    for item in node.items:
        if isinstance(item, ScalarNode):
            items.append(item.text)
        else:
            fields.problem(
                "wrong-type",
                f"an item of 'forEach' must be a string, not {kind_of(item)}",
                item.position,
                "quote a string that starts with {{" if isinstance(item, MapNode) else "",
            )
    return ListLoop(tuple(items)) if len(items) == len(node.items) else None


def _parse_split(node: MapNode, problems: list[Problem], subject: str) -> SplitLoop | None:
    fields = Fields(node, problems, f"{subject} loop.forEach")
    fields.check_keys(("list", "delimiter"))
    entries = {key.text: value for key, value in node.entries}
    text = entries.get("list")
    if not isinstance(text, ScalarNode):
        fields.problem("missing-key", "'list' is required and must be a string", text)
        return None
    delimiter = fields.scalar("delimiter")
    if delimiter is not None and delimiter.text not in DELIMITERS:
        fields.problem(
            "loop-delimiter",
            f"the delimiter '{delimiter.text[:20]}' must be one of . , ; : - _ space, tab, newline",
            delimiter.position,
            'write a newline as "\\n" and a tab as "\\t", in double quotes',
        )
        return None
    return SplitLoop("" if text.is_null else text.text, "," if delimiter is None else delimiter.text)
