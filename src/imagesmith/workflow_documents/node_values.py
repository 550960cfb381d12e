"""Nodes -> plain JSON data, typed as workflow documents are (spec/workflows.md 2.1).

Without quotes, `true` and `false` in any letter case are booleans, decimal numbers are numbers, all else is text:
`yes`, `2026-01-01`, `0777`. Where an action requires a text, the text of the document is kept: `1.10` stays so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from imagesmith.documents.fields import boolean_of
from imagesmith.documents.nodes import ListNode, Node, ScalarNode
from imagesmith.workflow_documents.inputs import Input, text_of

_INTEGER: Final = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})\Z")
_FLOAT: Final = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})?\.[0-9]{1,18}([eE][-+]?[0-9]{1,2})?\Z")
_TEXTS: Final = frozenset({"string", "strings", "arguments", "tags"})


def typed_scalar(node: ScalarNode) -> str | bool | int | float | None:
    """The value of a scalar; None for an empty one."""
    if not node.plain:
        return node.text
    if node.is_null:
        return None
    truth = boolean_of(node.text)
    if truth is not None:
        return truth
    if _INTEGER.match(node.text):
        return int(node.text)
    return float(node.text) if _FLOAT.match(node.text) else node.text


def typed_value(node: Node, spec: Input | None = None) -> Any:
    """The value of a node for the input `spec`. Entries of mappings without a value are omitted."""
    if isinstance(node, ScalarNode):
        value = typed_scalar(node)
        if spec is None or spec.kind not in _TEXTS or value is None:
            return value
        return text_of(value) if isinstance(value, bool) else node.text
    if isinstance(node, ListNode):
        return [typed_value(item, spec) for item in node.items]
    entries = (
        (key.text, typed_value(item, _member(spec, key.text.removesuffix(".$")))) for key, item in node.entries
    )
    return {key: value for key, value in entries if value is not None}


def typed_inputs(node: Node, specs: tuple[Input, ...]) -> Mapping[str, Any]:
    """The inputs of a step, keys as written."""
    value = typed_value(node, Input("inputs", "map", "", members=specs))
    return value if isinstance(value, dict) else {}


def _member(spec: Input | None, name: str) -> Input | None:
    if spec is None or spec.kind in _TEXTS:
        return spec
    return spec.member(name)
