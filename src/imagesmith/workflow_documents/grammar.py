"""Parses a workflow document: text -> WorkflowDocument, or all of its problems (spec/workflows.md 2).

    text --documents.yaml--> nodes --this module--> model --references.check_uses--> problems

Parsing continues after a problem, so that one pass shows them all; `document` is set only when none is an error.
Problems are collected check by check in the order of spec/workflows.md 2.6, because the API reports the first
in that order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from imagesmith.documents.conditions import comparisons
from imagesmith.documents.fields import Fields, boolean_of, integer_of, suggestion
from imagesmith.documents.nodes import MapNode, Node, ScalarNode, kind_of
from imagesmith.documents.yaml import YamlLimits, load_yaml
from imagesmith.values.diagnostics import Position, Problem, errors_of
from imagesmith.workflow_documents.actions import (
    CONTAINER_DISTRIBUTION,
    MACHINE_DISTRIBUTION,
    StepAction,
    step_actions,
)
from imagesmith.workflow_documents.declarations import described, parse_outputs, parse_parameters
from imagesmith.workflow_documents.document import OnFailure, Step, WorkflowDocument, WorkflowType
from imagesmith.workflow_documents.input_checks import InputChecks
from imagesmith.workflow_documents.node_values import typed_inputs
from imagesmith.workflow_documents.path_checks import Uses, check_uses
from imagesmith.workflow_documents.step_conditions import operands, parse_if

MAX_BYTES: Final = 65536
MAX_STEPS: Final = 15
MAX_PARAMETERS: Final = 25
MAX_OUTPUTS: Final = 25
_VERSIONS: Final = ("1.0", "1")
_STEP_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{2,127}\Z")
_DOCUMENT_KEYS: Final = ("name", "description", "schemaVersion", "parameters", "steps", "outputs")
_STEP_KEYS: Final = (
    "name", "action", "description", "if", "inputs", "onFailure", "rollbackEnabled", "rollbackEnabled.$",
    "timeoutSeconds",
)  # fmt: skip


@dataclass(frozen=True)
class ParsedWorkflow:
    """`document` is None when a problem is an error; `problems` holds warnings too, in order of position.

    `first` is the error that the API reports: the first in the order of the checks.
    """

    document: WorkflowDocument | None
    problems: tuple[Problem, ...]
    first: Problem | None = None

    @property
    def errors(self) -> tuple[Problem, ...]:
        return errors_of(self.problems)


@dataclass
class _Checks:
    """The problems of each check, in the order of spec/workflows.md 2.6."""

    structure: list[Problem] = field(default_factory=list)
    version: list[Problem] = field(default_factory=list)
    counts: list[Problem] = field(default_factory=list)
    actions: list[Problem] = field(default_factory=list)
    inputs: list[Problem] = field(default_factory=list)
    settings: list[Problem] = field(default_factory=list)
    conditions: list[Problem] = field(default_factory=list)
    paths: list[Problem] = field(default_factory=list)

    def all(self) -> list[Problem]:
        return [problem for check in fields(self) for problem in getattr(self, check.name)]


def parse_workflow(text: str | bytes, workflow_type: WorkflowType, *, max_bytes: int = MAX_BYTES) -> ParsedWorkflow:
    """Read and check a workflow document. Never raises because of the text."""
    checks = _Checks()
    loaded = load_yaml(text, limits=YamlLimits(text_bytes=max_bytes, aliases=False))
    checks.structure.extend(loaded.problems)
    document: WorkflowDocument | None = None
    if isinstance(loaded.root, MapNode):
        document = _WorkflowReader(workflow_type, checks).document(loaded.root)
    elif loaded.root is not None:
        message = f"a workflow document must be a mapping, not {kind_of(loaded.root)}"
        hint = "begin with 'schemaVersion: 1.0'"
        checks.structure.append(Problem("wrong-type", message, loaded.root.position, hint))
    found = checks.all()
    first = next((problem for problem in found if problem.severity == "error"), None)
    problems = tuple(sorted(found, key=lambda problem: problem.position or Position(0, 0)))
    return ParsedWorkflow(document if first is None else None, problems, first)


def refusal(problem: Problem) -> str:
    """The sentence of CreateWorkflow for a refused document (spec/workflows.md 2.6)."""
    line = f"line {problem.position.line}: " if problem.position else ""
    return f"Invalid workflow document: {line}{problem.one_line}."


@dataclass
class _WorkflowReader:
    """Reads one document and collects its problems."""

    workflow_type: WorkflowType
    checks: _Checks
    uses: Uses = field(default_factory=Uses)

    def document(self, root: MapNode) -> WorkflowDocument:
        top = Fields(root, self.checks.structure, "document")
        top.check_keys(_DOCUMENT_KEYS)
        self._version(top)
        parameters = parse_parameters(top, self.checks.structure, self.checks.counts)
        steps = self._steps(top)
        outputs = parse_outputs(
            top, self.checks.structure, self.checks.counts, uses=self.uses, order=len(steps)
        )  # fmt: skip
        self._counts(top)
        check_uses(
            self.uses.found, self.checks.paths,
            parameters=[parameter.name for parameter in parameters],
            steps=[(step.name, step.action) for step in steps],
            outputs={name: [item.name for item in action.outputs] for name, action in step_actions().items()},
        )  # fmt: skip
        self.checks.paths += self.uses.warnings
        return WorkflowDocument(
            name=top.text("name"),
            description=top.text("description"),
            parameters=parameters,
            steps=steps,
            outputs=outputs,
        )

    def _version(self, top: Fields) -> None:
        version = top.scalar("schemaVersion", required=True)
        if version is not None and version.text not in _VERSIONS:
            message = f"schemaVersion '{version.text[:40]}' is not supported"
            self.checks.version.append(Problem("schema-version", message, version.position, "use 1.0"))

    def _counts(self, top: Fields) -> None:
        for key, limit in (("steps", MAX_STEPS), ("parameters", MAX_PARAMETERS), ("outputs", MAX_OUTPUTS)):
            listed = top.node.get(key)
            count = len(getattr(listed, "items", ()))
            if listed is not None and count > limit:
                message = f"the document has {count} {key}; the limit is {limit}"
                self.checks.counts.append(Problem("too-many", message, listed.position))

    def _steps(self, top: Fields) -> tuple[Step, ...]:
        listed = top.sequence("steps", required=True)
        if listed is None:
            return ()
        if not listed.items:
            message = "the document has no steps; it needs at least one"
            self.checks.counts.append(Problem("no-steps", message, listed.position))
        steps: list[Step] = []
        for node in listed.items:
            if not isinstance(node, MapNode):
                message = f"a step must be a mapping, not {kind_of(node)}"
                self.checks.structure.append(Problem("wrong-type", message, node.position))
                continue
            step = self._step(node, len(steps))
            earlier = next((item for item in steps if item.name == step.name), None)
            if earlier is not None and step.name:
                message = f"step '{step.name}': the name appears twice, first on line {earlier.position.line}"
                self.checks.counts.append(Problem("duplicate-name", message, node.position))
            steps.append(step)
        self._check_mixed(steps)
        return tuple(steps)

    def _step(self, node: MapNode, order: int) -> Step:
        top = Fields(node, self.checks.structure, f"step {order + 1}")
        name = self._name(top)
        top.subject = subject = f"step '{name[:80]}'" if name else top.subject
        top.check_keys(_STEP_KEYS)
        action = self._action(top)
        guard = node.get("if")
        condition = None if guard is None else parse_if(guard, self.checks.conditions, subject)
        if condition is not None:
            for comparison in comparisons(condition):
                for text, _ in operands(comparison):
                    operand = ScalarNode(text, comparison.position)
                    self.uses.note(operand, "chained", subject=f"{subject}: if", order=order)
        settings = Fields(node, self.checks.settings, subject)
        on_failure: OnFailure = "Abort"
        if settings.choice("onFailure", ("Abort", "Continue"), default="Abort") == "Continue":
            on_failure = "Continue"
        return Step(
            name=name,
            action="" if action is None else action.name,
            description=described(top),
            condition=condition,
            inputs=self._inputs(top, action, order),
            on_failure=on_failure,
            rollback=self._rollback(settings, order),
            timeout_seconds=self._timeout(settings, action),
            position=node.position,
        )

    def _name(self, top: Fields) -> str:
        name = top.scalar("name", required=True)
        if name is None:
            return ""
        if not _STEP_NAME.match(name.text):
            message = "'name' must have 3 to 128 letters, digits, '-' or '_', and begin with a letter"
            top.problem("wrong-name", f"{message}; it is '{name.text[:80]}'", name.position)
        return name.text

    def _action(self, top: Fields) -> StepAction | None:
        node = top.scalar("action", required=True)
        if node is None:
            return None
        action = step_actions().get(node.text)
        checks = Fields(top.node, self.checks.actions, top.subject)
        if action is None:
            hint = suggestion(node.text, step_actions())
            checks.problem("unknown-action", f"there is no action '{node.text[:80]}'", node.position, hint)
            return None
        if self.workflow_type not in action.types:
            message = f"the action '{action.name}' is not allowed in a {self.workflow_type} workflow"
            checks.problem("wrong-stage", message, node.position, f"it is in {_listed(action)}")
        return action

    def _check_mixed(self, steps: list[Step]) -> None:
        containers = [step for step in steps if step.action in CONTAINER_DISTRIBUTION]
        machines = [step for step in steps if step.action in MACHINE_DISTRIBUTION]
        if containers and machines:
            message = (
                f"step '{machines[0].name}': {machines[0].action} distributes machine images, "
                f"{containers[0].action} of step '{containers[0].name}' container images"
            )
            hint = "write one document for each"
            self.checks.actions.append(Problem("mixed-distribution", message, machines[0].position, hint))

    def _inputs(self, top: Fields, action: StepAction | None, order: int) -> Mapping[str, Any]:
        given = top.mapping("inputs")
        if given is None:
            if action is not None and action.has_required_input and top.node.get("inputs") is None:
                names = ", ".join(spec.name for spec in action.inputs if spec.required)
                message = f"{top.subject}: 'inputs' is required: {action.name} needs {names}"
                self.checks.inputs.append(Problem("missing-input", message, top.node.position))
            return {}
        if action is None:
            return {}
        InputChecks(self.checks.inputs, self.uses, top.subject, order).step(given, action)
        return typed_inputs(given, action.inputs)

    def _rollback(self, settings: Fields, order: int) -> bool | str:
        keys = [key for key in ("rollbackEnabled", "rollbackEnabled.$") if settings.node.get(key) is not None]
        if len(keys) == 2:
            settings.problem("wrong-keys", "'rollbackEnabled' is given twice", settings.node.key(keys[1]))
        node = settings.scalar(keys[0]) if keys else None
        if node is None:
            return True
        flag = boolean_of(node.text)
        if flag is not None:
            return flag
        subject = f"{settings.subject}: rollbackEnabled"
        if self.uses.note(node, "chained", subject=subject, order=order):
            return node.text
        message = f"'rollbackEnabled' must be true, false or a path, not '{node.text[:80]}'"
        settings.problem("wrong-value", message, node.position)
        return True

    def _timeout(self, settings: Fields, action: StepAction | None) -> int:
        default = action.default_timeout if action is not None else 0
        node: Node | None = settings.node.get("timeoutSeconds")
        seconds = settings.integer("timeoutSeconds", default=default)
        if action is None or not isinstance(node, ScalarNode) or integer_of(node.text) is None:
            return default
        if not 1 <= seconds <= action.max_timeout:
            message = f"'timeoutSeconds' of {action.name} must be 1 to {action.max_timeout}, not {seconds}"
            settings.problem("wrong-value", message, node.position)
        return seconds


def _listed(action: StepAction) -> str:
    return " and ".join(sorted(action.types))
