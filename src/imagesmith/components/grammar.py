"""Parses a component document: text -> ComponentDocument, or all of its problems (spec/components.md 2, 3).

    text --documents.yaml--> nodes --this module--> model --references.check--> problems

Parsing continues after a problem, so that one pass shows them all; `document` is set only when none is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from imagesmith.components.actions.assertions import ASSERT
from imagesmith.components.actions.registry import action_registry
from imagesmith.components.declarations import parse_constants, parse_parameters
from imagesmith.components.inputs import parse_assertion, parse_inputs, script_lines
from imagesmith.components.loops import parse_loop
from imagesmith.components.model import NO_TIMEOUT, ComponentDocument, ComponentStep, OnFailure, Phase, Platform
from imagesmith.components.operators import parse_guard
from imagesmith.components.parsed import Parsed
from imagesmith.components.phases import STAGE_PHASES, idle_hint, idle_reason
from imagesmith.components.reference_checks import check_references
from imagesmith.documents.fields import Fields, suggestion
from imagesmith.documents.nodes import MapNode, Node, ScalarNode, kind_of, to_data
from imagesmith.documents.slips import missing_space
from imagesmith.documents.yaml import YamlLimits, load_yaml
from imagesmith.values.diagnostics import Position, Problem, errors_of

PLATFORMS: Final[dict[str, Platform]] = {
    "linux": "linux",
    "windows": "windows",
    "macos": "darwin",
    "darwin": "darwin",
}
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{3,128}\Z")
_DOCUMENT_KEYS: Final = (
    "name",
    "description",
    "schemaVersion",
    "parameters",
    "constants",
    "phases",
    "disableLogging",
)
_STEP_KEYS: Final = (
    "name",
    "action",
    "timeoutSeconds",
    "onFailure",
    "maxAttempts",
    "inputs",
    "loop",
    "if",
    "disableLogging",
)
_DEFAULT_TIMEOUT: Final = 7200


def parse_component(
    text: str | bytes,
    *,
    platform: str = "Linux",
    blocked: frozenset[str] = frozenset(),
    stages_required: bool = True,
    max_bytes: int = 65536,
) -> Parsed:
    """Read and check a component document. Never raises because of the text.

    `platform` is `Linux`, `Windows` or `macOS` in any letter case; `blocked` names actions that are refused;
    `stages_required` asks for a phase that Image Builder runs (spec/components.md 3.1, check 14).
    """
    target = PLATFORMS[platform.lower()]
    loaded = load_yaml(text, limits=YamlLimits(text_bytes=max_bytes))
    problems = list(loaded.problems)
    document: ComponentDocument | None = None
    if isinstance(loaded.root, MapNode):
        reader = _ComponentReader(target, blocked, stages_required, problems)
        document = reader.document(loaded.root)
    elif loaded.root is not None:
        message = f"a component document must be a mapping, not {kind_of(loaded.root)}"
        problems.append(Problem("wrong-type", message, loaded.root.position, "begin with 'schemaVersion: 1.0'"))
    problems.sort(key=lambda problem: problem.position or Position(0, 0))
    return Parsed(None if errors_of(problems) else document, tuple(problems))


_Item = TypeVar("_Item", Phase, ComponentStep)


@dataclass
class _ComponentReader:
    """Reads one document and collects its problems."""

    platform: Platform
    blocked: frozenset[str]
    stages_required: bool
    problems: list[Problem]

    def document(self, root: MapNode) -> ComponentDocument | None:
        fields = Fields(root, self.problems, "document")
        fields.check_keys(_DOCUMENT_KEYS)
        version = fields.scalar("schemaVersion", required=True)
        if version is not None and version.text not in ("1.0", "1"):
            fields.problem(
                "schema-version",
                f"schemaVersion '{version.text[:40]}' is not supported",
                version.position,
                "use 1.0",
            )
        taken: dict[str, Position] = {}
        document = ComponentDocument(
            name=fields.text("name"),
            description=fields.text("description"),
            parameters=parse_parameters(root, self.problems, taken),
            constants=parse_constants(root, self.problems, taken),
            phases=self._phases(fields),
            disable_logging=fields.boolean("disableLogging", default=False),
            platform=self.platform,
        )
        check_references(document, root, self.problems)
        return document

    def _phases(self, fields: Fields) -> tuple[Phase, ...]:
        listed = fields.sequence("phases", required=True)
        if listed is None:
            return ()
        if not listed.items:
            self._problem("no-phases", "Document has 0 phases. Phases list must not be empty.", listed.position)
            return ()
        phases = self._read_named(listed.items, self._phase, "phase", "the document")
        idle = [phase for phase in phases if phase.name not in STAGE_PHASES] if self.stages_required else []
        if self.stages_required and len(idle) == len(phases):
            self._problem(
                "no-stage-phase",
                "no phase is named 'build', 'validate' or 'test', so nothing would ever run",
                listed.position,
                idle_hint(idle[0].name) if idle else "",
            )
        else:
            self.problems += [
                Problem(
                    code="idle-phase",
                    message=idle_reason(phase.name),
                    position=phase.position,
                    hint=idle_hint(phase.name),
                    severity="warning",
                )
                for phase in idle
            ]
        return phases

    def _read_named(
        self, nodes: tuple[Node, ...], read: Callable[[MapNode], _Item | None], kind: str, where: str
    ) -> tuple[_Item, ...]:
        """Read the mappings of a list, whose names must be unique."""
        found: dict[str, _Item] = {}
        for node in nodes:
            if not isinstance(node, MapNode):
                hint = missing_space(node.text) if isinstance(node, ScalarNode) else ""
                self._problem("wrong-type", f"a {kind} must be a mapping, not {kind_of(node)}", node.position, hint)
                continue
            item = read(node)
            if item is None:
                continue
            if item.name in found:
                first = found[item.name].position.line
                message = f"the {kind} name '{item.name}' appears twice in {where}, first on line {first}"
                self._problem("duplicate-name", message, item.position)
            else:
                found[item.name] = item
        return tuple(found.values())

    def _name(self, fields: Fields, kind: str) -> str | None:
        name = fields.scalar("name", required=True)
        if name is None:
            return None
        if not _NAME.match(name.text):
            message = f"the {kind} name '{name.text[:80]}' must have 3 to 128 letters, digits, '-' or '_'"
            self._problem("wrong-name", message, name.position)
        return name.text

    def _phase(self, node: MapNode) -> Phase | None:
        fields = Fields(node, self.problems, "phase")
        fields.check_keys(("name", "steps", "disableLogging"))
        name = self._name(fields, "phase")
        fields.subject = f"phase '{name}'" if name else "phase"
        listed = fields.sequence("steps", required=True)
        steps: tuple[ComponentStep, ...] = ()
        if listed is not None and not listed.items:
            fields.problem("no-steps", "a phase needs at least one step", listed.position)
        elif listed is not None:
            steps = self._read_named(
                listed.items, lambda item: self._step(item, name or ""), "step", fields.subject
            )
            self._check_loop_names(steps)
        if name is None:
            return None
        return Phase(name, steps, fields.boolean("disableLogging", default=False), node.position)

    def _check_loop_names(self, steps: tuple[ComponentStep, ...]) -> None:
        names: dict[str, ComponentStep] = {}
        for step in steps:
            if step.loop is None or not step.loop.name:
                continue
            first = names.setdefault(step.loop.name, step)
            if first is not step:
                message = f"the loop name '{step.loop.name}' is also used by step '{first.name}'"
                self._problem("duplicate-name", message, step.loop.position)

    def _step(self, node: MapNode, phase: str) -> ComponentStep | None:
        fields = Fields(node, self.problems, f"a step in phase '{phase}'")
        fields.check_keys(_STEP_KEYS)
        name = self._name(fields, "step")
        subject = f"Parsing step '{name}' in phase '{phase}' failed. Error:"
        fields.subject = subject.removesuffix(":")
        action = self._action(fields)
        inputs = None
        if action:
            inputs = parse_inputs(node, action_registry()[action], self.platform, self.problems, subject)
        assertion = None
        if action == ASSERT and inputs is not None:
            assertion = parse_assertion(inputs, self.problems, subject)
        guard_node, loop_node = node.get("if"), fields.mapping("loop")
        step = ComponentStep(
            name=name or "",
            action=action,
            inputs=None if inputs is None else to_data(inputs),
            timeout_seconds=self._timeout(fields, action),
            on_failure=self._on_failure(fields),
            max_attempts=self._attempts(fields, action),
            assertion=assertion,
            loop=None if loop_node is None else parse_loop(loop_node, self.problems, subject),
            guard=None if guard_node is None else parse_guard(guard_node, self.problems, subject),
            disable_logging=fields.boolean("disableLogging", default=False),
            position=node.position,
            script_lines=() if inputs is None or action != "ExecuteBash" else script_lines(inputs),
        )
        return step if name else None

    def _action(self, fields: Fields) -> str:
        """The action's name, or an empty text when it cannot be used here."""
        node = fields.scalar("action", required=True)
        if node is None:
            return ""
        registry = action_registry()
        action = registry.get(node.text)
        if action is None:
            hint = suggestion(node.text, registry)
            fields.problem("unknown-action", f"there is no action '{node.text[:80]}'", node.position, hint)
            return ""
        if self.platform not in action.platforms:
            message = f"the action '{action.name}' does not exist on {self.platform}"
            hint = f"it runs on {' and '.join(sorted(action.platforms))}"
            fields.problem("wrong-platform", message, node.position, hint)
        if action.name in self.blocked:
            fields.problem("blocked-action", f"the action '{action.name}' is blocked here", node.position)
        return action.name

    def _timeout(self, fields: Fields, action: str) -> int:
        default = NO_TIMEOUT if action == "ExecuteDocument" else _DEFAULT_TIMEOUT
        seconds = fields.integer("timeoutSeconds", default=default)
        if action == "ExecuteDocument" and seconds != NO_TIMEOUT:
            self._fixed(fields, "timeoutSeconds", NO_TIMEOUT)
        elif seconds != NO_TIMEOUT and seconds < 1:
            node = fields.scalar("timeoutSeconds")
            message = f"'timeoutSeconds' must be at least 1, or -1 for no limit; not {seconds}"
            fields.problem("wrong-value", message, node)
        return seconds

    def _attempts(self, fields: Fields, action: str) -> int:
        attempts = fields.integer("maxAttempts", default=1)
        if action == "ExecuteDocument" and attempts != 1:
            self._fixed(fields, "maxAttempts", 1)
        elif attempts < 1:
            node = fields.scalar("maxAttempts")
            message = f"'maxAttempts' must be at least 1, not {attempts}"
            fields.problem("wrong-value", message, node)
        return attempts

    def _fixed(self, fields: Fields, key: str, value: int) -> None:
        node = fields.scalar(key)
        assert isinstance(node, ScalarNode)
        message = f"'{key}' of ExecuteDocument is always {value}"
        fields.problem("wrong-value", message, node.position, "leave it out")

    def _on_failure(self, fields: Fields) -> OnFailure:
        chosen = fields.choice("onFailure", ("Abort", "Continue", "Ignore"), default="Abort")
        return "Continue" if chosen == "Continue" else "Ignore" if chosen == "Ignore" else "Abort"

    def _problem(self, code: str, message: str, position: Position, hint: str = "") -> None:
        self.problems.append(Problem(code, message, position, hint))
