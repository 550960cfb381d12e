"""Checks the inputs of a step before the run: keys, static values, and their paths
(spec/workflows.md 2.6, check 6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from imagesmith.documents.fields import suggestion
from imagesmith.documents.nodes import ListNode, MapNode, Node, ScalarNode, kind_of
from imagesmith.values.diagnostics import Problem
from imagesmith.workflow_documents.actions import StepAction
from imagesmith.workflow_documents.inputs import Input, InputError, Kind, check_unique, coerced, context_of
from imagesmith.workflow_documents.node_values import typed_value
from imagesmith.workflow_documents.path_checks import Uses
from imagesmith.workflow_documents.paths import ValueContext


@dataclass(frozen=True)
class InputChecks:
    """Checks the inputs of one step; `order` is its position in the document."""

    problems: list[Problem]
    uses: Uses
    subject: str
    order: int

    def step(self, node: MapNode, action: StepAction) -> None:
        self._members(node, action.inputs, "inputs", owner=action.name)

    def _members(
        self, node: MapNode, specs: tuple[Input, ...], path: str, *, owner: str = "", documented: bool = True
    ) -> None:
        """`documented`: the action defines the keys, not the author."""
        given: set[str] = set()
        for key, value in node.entries:
            name = key.text.removesuffix(".$")
            if name in given:
                message = f"'{path}.{name}' is given twice, as '{name}' and as '{name}.$'"
                self._report("input-twice", message, key)
            spec = next((item for item in specs if item.name == name), None)
            if spec is None and (specs or owner):
                hint = suggestion(name, [item.name for item in specs]) if specs else ""
                where = f"{owner} has no input" if owner else f"'{path}' has no key"
                self._report("unknown-input", f"{where} '{name[:80]}'", key, hint)
            if isinstance(value, ScalarNode) and value.is_null:
                continue
            given.add(name)
            self._value(value, spec, context_of(key.text, spec if documented else None), f"{path}.{name}")
        for spec in specs:
            if spec.required and spec.name not in given:
                self._report("missing-input", f"'{path}' needs '{spec.name}' or '{spec.name}.$'", node)

    def _value(self, node: Node, spec: Input | None, context: ValueContext, path: str) -> None:
        if isinstance(node, ScalarNode):
            self._scalar(node, spec, context, path)
        elif isinstance(node, ListNode):
            self._list(node, spec, context, path)
        else:
            self._map(node, spec, path)

    def _scalar(self, node: ScalarNode, spec: Input | None, context: ValueContext, path: str) -> None:
        images = spec is not None and spec.kind == "images"
        subject = f"{self.subject}: {path}"
        dynamic = self.uses.note(node, context, subject=subject, order=self.order, images=images)
        if spec is None or (dynamic and not (images and context != "chained")):
            return
        if images:
            self._report("wrong-input", f"'{path}' must be taken from a step: write '{spec.name}.$'", node)
            return
        self._report_error(lambda: coerced(spec, typed_value(node, spec), path), node)

    def _list(self, node: ListNode, spec: Input | None, context: ValueContext, path: str) -> None:
        item_spec = spec
        if spec is not None and spec.kind == "strings":
            item_spec = Input(spec.name, "string", "")
        elif spec is not None and spec.kind == "list":
            item_spec = Input(spec.name, "map", "", members=spec.members)
        elif spec is not None and spec.kind == "json":
            item_spec = None
        elif spec is not None and context != "chained":
            self._wrong(spec, node, path)
            return
        self._bounded(spec, len(node.items), node, path)
        inner: ValueContext = "chained" if context == "chained" else "text"
        for index, item in enumerate(node.items):
            self._value(item, item_spec, inner, f"{path}[{index}]")
        if spec is not None:
            self._report_error(lambda: check_unique(spec, typed_value(node, spec), path), node)

    def _report_error(self, check: Callable[[], object], node: Node) -> None:
        try:
            check()
        except InputError as error:
            self._report("wrong-input", str(error), node)

    def _map(self, node: MapNode, spec: Input | None, path: str) -> None:
        if spec is None or spec.kind == "json":
            self._members(node, (), path)
        elif spec.kind == "map" or (spec.kind == "list" and spec.loose):
            self._members(node, spec.members, path)
        elif spec.kind in ("arguments", "tags"):
            kind: Kind = "strings" if spec.kind == "arguments" else "string"
            names = dict.fromkeys(key.text.removesuffix(".$") for key, _ in node.entries)
            self._bounded(spec, len(names), node, path)
            self._members(node, tuple(Input(name, kind, "") for name in names), path, documented=False)
        else:
            self._wrong(spec, node, path)

    def _bounded(self, spec: Input | None, count: int, node: Node, path: str) -> None:
        if spec is not None and spec.max_items is not None and count > spec.max_items:
            self._report("wrong-input", f"'{path}' has {count} entries; the limit is {spec.max_items}", node)

    def _wrong(self, spec: Input, node: Node, path: str) -> None:
        hint = "quote a value that begins with {{" if isinstance(node, MapNode) and spec.is_scalar else ""
        words = "a list" if spec.kind in ("list", "strings") else "a mapping" if not spec.is_scalar else "a string"
        self._report("wrong-input", f"'{path}' must be {words}, not {kind_of(node)}", node, hint)

    def _report(self, code: str, message: str, node: Node, hint: str = "") -> None:
        self.problems.append(Problem(code, f"{self.subject}: {message}", node.position, hint))
