"""Plans a document before its run: the steps that would run, and their inputs.

Outputs of earlier steps and workflows are not known yet: a value that depends on them is pending, and shown as its
path in angle brackets. A step whose condition is pending may run.

    run       the condition is true, or there is none
    skip      the condition is false
    may run   the condition depends on a pending value
    fail      it cannot run: a path leads to a step that is skipped, a value has the wrong type
    never     a step before it fails and ends the workflow
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from imagesmith.workflow_documents.actions import step_actions
from imagesmith.workflow_documents.document import OnFailure, Step, WorkflowDocument
from imagesmith.workflow_documents.expressions import (
    Lookup,
    Scope,
    Unresolvable,
    condition_holds,
    resolve_expression,
    resolve_members,
    resolve_path,
    typed_input,
)
from imagesmith.workflow_documents.paths import Path
from imagesmith.workflow_documents.variables import find_variable

Verdict = Literal["run", "skip", "may run", "fail", "never"]


class _Pending(Exception):
    """A condition depends on a value that is only known in the run."""

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(path)


@dataclass(frozen=True)
class PlannedStep:
    """`inputs` are resolved as far as known; inputs of a skipped step are as written."""

    name: str
    action: str
    verdict: Verdict
    reason: str
    inputs: Mapping[str, Any]
    pending: tuple[str, ...]
    """The paths whose values are only known in the run."""
    timeout_seconds: int
    on_failure: OnFailure

    @property
    def ends_workflow(self) -> bool:
        return self.verdict == "fail" and self.on_failure == "Abort"


@dataclass(frozen=True)
class WorkflowPlan:
    """What a workflow is expected to do, step by step."""

    steps: tuple[PlannedStep, ...]
    outputs: Mapping[str, Any]
    """As far as they are known; outputs of skipped steps are omitted. Empty when the workflow fails."""

    @property
    def fails(self) -> bool:
        """Whether a step is sure to fail and to end the workflow."""
        return any(step.ends_workflow for step in self.steps)


def plan_workflow(
    document: WorkflowDocument, *, parameters: Mapping[str, Any], variables: Mapping[str, Any]
) -> WorkflowPlan:
    """The plan with these parameter values; missing variables are pending."""
    planner = _Planner(parameters, variables)
    steps = tuple(planner.step(step) for step in document.steps)
    outputs: dict[str, Any] = {}
    for output in document.outputs if not any(step.ends_workflow for step in steps) else ():
        try:
            outputs[output.name] = resolve_expression(output.value, planner.lookup([]))
        except Unresolvable:
            continue
    return WorkflowPlan(steps, outputs)


class _Planner:
    def __init__(self, parameters: Mapping[str, Any], variables: Mapping[str, Any]) -> None:
        self._scope = Scope(parameters=parameters, imagebuilder=variables)
        self._without_outputs: dict[str, str] = {}
        """Steps that will have no outputs, and why."""
        self._ended_by = ""
        """The step that is sure to end the workflow."""

    def step(self, step: Step) -> PlannedStep:
        verdict, reason = self._verdict(step)
        pending: list[str] = []
        inputs: Mapping[str, Any] = step.inputs
        if verdict in ("run", "may run"):
            try:
                inputs = self._inputs(step, pending)
            except Unresolvable as error:
                # a step that may be skipped is not sure to fail
                sure = verdict == "run"
                verdict = "fail" if sure else verdict
                reason = error.message if sure else f"{reason}; when it runs, it fails: {error.message}"
        if verdict in ("skip", "fail"):
            self._without_outputs[step.name] = "is skipped" if verdict == "skip" else "fails"
        planned = PlannedStep(
            name=step.name, action=step.action, verdict=verdict, reason=reason, inputs=inputs,
            pending=tuple(dict.fromkeys(pending)), timeout_seconds=step.timeout_seconds,
            on_failure=step.on_failure,
        )  # fmt: skip
        if planned.ends_workflow:
            self._ended_by = step.name
        return planned

    def lookup(self, pending: list[str] | None) -> Lookup:
        """Returns the value at a path. A pending one is recorded and shown, or raises _Pending without a list."""

        def find(path: Path) -> Any:
            if path.root == "stepOutputs" and path.name in self._without_outputs:
                why = self._without_outputs[path.name]
                raise Unresolvable(f"Unable to resolve '{path.text}': step '{path.name}' {why}", path.text)
            if not self._is_pending(path):
                return resolve_path(path, self._scope)
            if pending is None:
                raise _Pending(path.text)
            pending.append(path.text)
            return f"<{path.text}>"

        return find

    def _is_pending(self, path: Path) -> bool:
        if path.root in ("stepOutputs", "workflowOutputs"):
            return True
        variable = find_variable(path.name) if path.root == "imagebuilder" else None
        return variable is not None and variable.name not in self._scope.imagebuilder

    def _verdict(self, step: Step) -> tuple[Verdict, str]:
        if self._ended_by:
            return "never", f"step '{self._ended_by}' fails and ends the workflow"
        try:
            if condition_holds(step.condition, self.lookup(None)):
                return "run", ""
        except _Pending as error:
            return "may run", f"if depends on {error.path}"
        except Unresolvable as error:
            return "fail", f"if: {error.message}"
        return "skip", "if is false"

    def _inputs(self, step: Step, pending: list[str]) -> Mapping[str, Any]:
        """Known values are converted to the types of the action; a pending one is only text here."""
        action = step_actions()[step.action]
        found: dict[str, Any] = {}
        for key, value in step.inputs.items():
            unknown: list[str] = []
            for name, item in resolve_members({key: value}, self.lookup(unknown), action.inputs).items():
                found[name] = item if unknown else typed_input(action, name, item)
            pending += unknown
        return found


def parameter_texts(given: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """NAME=VALUE pairs as the lists of a request: a repeated name adds a value."""
    texts: dict[str, list[str]] = {}
    for name, value in given:
        texts.setdefault(name, []).append(value)
    return texts
