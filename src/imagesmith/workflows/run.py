"""The run of one workflow document (spec/workflows.md 6).

    open --> step --> step --> ... --> outputs --> finish(outputs) --> COMPLETED
              |  FAILED, Continue: the next step
              |  FAILED, Abort: rollback in reverse order --> ROLLBACK_COMPLETED | FAILED
              |  its instance died with the server: from `open` again, at most _ATTEMPTS times

Each step is one step of the journal: condition, inputs, action and records together. A step that was cut off runs
again when it works on no instance; one that did is of an instance whose state nobody knows, so the run begins anew.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, Final, TypeVar

from imagesmith.instances.protocol import InstanceError
from imagesmith.processes import Cancellation, Cancelled, ProcessFailed
from imagesmith.recipes.plan import BuildPlan, PlannedWorkflow
from imagesmith.store.database import StoreUnavailable
from imagesmith.workflows.deadline import DeadlinePassed, limited
from imagesmith.workflows.document import Step, WorkflowDocument
from imagesmith.workflows.dynamic import (
    Scope,
    Unresolvable,
    evaluate_condition,
    evaluate_rollback,
    resolve_inputs,
    resolve_outputs,
)
from imagesmith.workflows.executions import Begun, Executions, step_id
from imagesmith.workflows.failures import StepFailed, explain
from imagesmith.workflows.instances import InstanceGone, instance_id
from imagesmith.workflows.journal import Journal, Json
from imagesmith.workflows.logs import BuildLog
from imagesmith.workflows.reserve import insist
from imagesmith.workflows.steps.context import LABELS, Outcome, StepRun
from imagesmith.workflows.steps.hooks import notify
from imagesmith.workflows.steps.table import LAUNCH, WAIT, action_of
from imagesmith.workflows.workshop import Workshop

_log = logging.getLogger(__name__)

_ATTEMPTS: Final = 3
"""How often a run, or a step of it, may begin before it fails: the first time and twice after the server died."""

_EXPECTED = (StepFailed, InstanceError, ProcessFailed, StoreUnavailable, OSError)
"""Failures that the reason tells in full; any other is a fault of ours and is logged with its traceback."""

PHASES: Final = {"BUILD": "Build", "TEST": "Test", "DISTRIBUTION": "Distribution"}

Value = TypeVar("Value")


@dataclass(frozen=True)
class Ended:
    """How a run ended. `status` is that of its record; the rest is empty unless it failed or said more."""

    status: str
    reason: str = ""
    context: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict)
    containers: Sequence[Mapping[str, Any]] = ()
    digest: str = ""

    @property
    def ok(self) -> bool:
        return self.status == "COMPLETED"

    def to_json(self) -> Json:
        return {**vars(self), "containers": list(self.containers)}


@dataclass(frozen=True)
class Place:
    """Which run of the image this is, and what it may see."""

    id: str
    position: int
    key: str
    """Of the engine's run that this is part of."""
    workflow_outputs: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""
    until: datetime | None = None
    """When the stage must have ended, and what says so."""
    limit: str = ""


Finish = Callable[[StepRun, Mapping[str, Any]], Json]
"""The end of a BUILD workflow: (work, outputs) -> facts for Ended. Raises as an action does."""


class WorkflowRun:
    """One run of one document for one image."""

    def __init__(
        self,
        shop: Workshop,
        plan: BuildPlan,
        journal: Journal,
        *,
        planned: PlannedWorkflow,
        document: WorkflowDocument,
        parameters: Mapping[str, Any],
        place: Place,
        finish: Sequence[tuple[str, Finish]] = (),
    ) -> None:
        self._shop = shop
        self._plan = plan
        self._journal = journal
        self._planned = planned
        self._document = document
        self._place = place
        self._finish = finish
        self._executions: Executions = shop.executions(plan.image_arn)
        variables = {**plan.variables, "workflowPhase": PHASES[planned.type]}
        self._scope = Scope(parameters, {}, place.workflow_outputs, variables)
        self._tag = ""

    def run(self, prepare: Callable[[], None] = lambda: None) -> Ended:
        """Carry the document out; `prepare` is done together with opening the records. Raises Cancelled."""
        attempt = 0
        while True:
            attempt += 1
            self._tag = f"{self._place.id}.{attempt}"
            ended = self._attempt(prepare)
            if ended is not None:
                return ended

    def _attempt(self, prepare: Callable[[], None]) -> Ended | None:
        """One way through the document; None when its instance is gone and it must begin anew."""
        self._journal.step(f"{self._tag} open", lambda cancellation: self._open(prepare, cancellation))
        outputs: dict[str, Mapping[str, Any]] = {}
        ran: list[Step] = []
        containers: list[Mapping[str, Any]] = []
        for step in self._document.steps:
            scope = replace(self._scope, step_outputs=outputs)
            result = self._wait(step, scope) if step.action == WAIT else self._step(step, scope)
            if result["status"] == "LOST":
                return None
            containers += result.get("containers", ())
            if result["status"] == "SKIPPED":
                continue
            ran.append(step)
            if result.get("outputs"):
                outputs[step.name] = result["outputs"]
            if result["status"] == "FAILED" and step.on_failure == "Abort":
                return self._abort(step, ran, scope, result)
        return self._complete(replace(self._scope, step_outputs=outputs), ran, containers)

    def _open(self, prepare: Callable[[], None], cancellation: Cancellation) -> Json:
        def write() -> None:
            prepare()
            self._executions.open(self._planned, self._document, id=self._place.id, position=self._place.position)

        self._insist(write, cancellation)
        return {}

    # One step

    def _step(self, step: Step, scope: Scope) -> Json:
        return self._journal.step(f"{self._tag} {step.name}", lambda it: self._carry_out(step, scope, it))

    def _carry_out(self, step: Step, scope: Scope, cancellation: Cancellation) -> Json:
        """Condition, inputs, action, records: all that one step is."""
        try:
            if not evaluate_condition(step.condition, scope):
                return self._skip(step, step.inputs, cancellation)
            inputs = self._inputs(step, scope)
        except Unresolvable as error:
            return self._fail_at_once(step, error.message, cancellation)
        id = step_id(self._place.id, step.name)
        seconds = float(step.timeout_seconds)
        begun = self._begin(id, inputs, seconds, cancellation)
        if begun.result is not None:
            return dict(begun.result)
        with self._shop.log(self._plan.image_arn) as log:
            verdict = self._may_begin(step, begun, log)
            if verdict == "LOST":
                return {"status": "LOST"}
            if verdict:
                return self._end(step, log, {"status": "FAILED", "message": verdict}, cancellation)
            return self._act(step, inputs, log, cancellation)

    def _inputs(self, step: Step, scope: Scope) -> dict[str, Any]:
        """The resolved inputs of a step. Raises Unresolvable."""
        strict = self._shop.settings.builds.strict_chaining
        return resolve_inputs(step.inputs, scope, action=step.action, strict_chaining=strict)

    def _may_begin(self, step: Step, begun: Begun, log: BuildLog) -> str:
        """Empty, a reason to fail, or LOST: what an earlier beginning of the step means."""
        if begun.times == 1:
            return ""
        died = begun.times - 1 - begun.stopped
        if died >= _ATTEMPTS:
            return f"the server died {died} times during this step; it is not tried again"
        if step.action != LAUNCH and any(key.startswith("instanceId") for key in step.inputs):
            return self._lost(step.name, log, orderly=begun.stopped >= begun.times - 1)
        log.line(LABELS[self._planned.type], f"the server stopped during {step.name}; attempt {begun.times} begins")
        return ""

    def _lost(self, name: str, log: BuildLog, *, orderly: bool) -> str:
        """The instance of the run is gone: LOST, or the reason when that happened too often."""
        deaths = 0 if orderly else self._executions.count_death(self._place.id)
        if deaths >= _ATTEMPTS:
            return f"the server died {deaths} times during this run; it is not tried again"
        log.line(
            LABELS[self._planned.type],
            f"the server stopped during {name}, and the instance with it; the workflow begins anew",
        )
        for known in self._shop.instances.of(self._plan.image_arn, self._place.id):
            self._shop.instances.terminate(known.id, image_arn=self._plan.image_arn)
        return "LOST"

    def _act(self, step: Step, inputs: Mapping[str, Any], log: BuildLog, cancellation: Cancellation) -> Json:
        id = step_id(self._place.id, step.name)
        seconds: dict[str, float] = {}
        facts: Mapping[str, Any] = {}
        try:
            outcome = self._timed(step, inputs, log, cancellation, seconds)
            facts = outcome.facts
            result = _result(outcome)
        except Cancelled:
            self._note_stop(id)
            raise
        except InstanceGone:
            verdict = self._lost(step.name, log, orderly=False)
            if verdict == "LOST":
                return {"status": "LOST"}
            result = {"status": "FAILED", "message": verdict}
        except Exception as error:
            result = self._failed(step.name, error)
        if result["status"] == "SKIPPED":
            return self._skip(step, step.inputs, cancellation)
        return self._end(step, log, result, cancellation, seconds=seconds, facts=facts)

    def _timed(
        self,
        step: Step,
        inputs: Mapping[str, Any],
        log: BuildLog,
        cancellation: Cancellation,
        seconds: dict[str, float],
    ) -> Outcome:
        """The action under its time limit, or that of the stage when it is nearer. Raises StepFailed, ..."""
        allowed, reason = self._allowed(step)
        try:
            with limited(cancellation, allowed) as inner:
                run = self._work(step.name, log, inner, allowed, seconds)
                return action_of(self._plan.kind, step.action)(run, inputs)
        except DeadlinePassed:
            raise StepFailed(reason) from None

    def _allowed(self, step: Step) -> tuple[float, str]:
        """Seconds that a step may take now, and the failure when they are over."""
        own = float(step.timeout_seconds)
        if self._place.until is not None:
            left = (self._place.until - self._shop.clock()).total_seconds()
            if left < own:
                return max(left, 0.0), self._place.limit
        return own, f"Step timed out after {step.timeout_seconds} seconds"

    def _work(
        self, name: str, log: BuildLog, cancellation: Cancellation, allowed: float, seconds: dict[str, float]
    ) -> StepRun:
        return StepRun(
            self._shop, self._plan, log, cancellation, seconds,
            type=self._planned.type, execution=self._place.id, step_id=step_id(self._place.id, name),
            step_name=name, digest=self._place.digest, seconds_left=allowed,
        )  # fmt: skip

    def _failed(self, what: str, error: Exception) -> Json:
        if not isinstance(error, _EXPECTED):
            _log.error("%s of %s failed in an unexpected way", what, self._plan.image_arn, exc_info=True)
        failure = explain(error, f"the step {what}", free=self._shop.reserve.free)
        return {
            "status": "FAILED",
            "message": failure.reason,
            "context": dict(failure.context),
            "containers": [dict(item) for item in failure.containers],
            "outputs": {**failure.outputs, "errorMessage": failure.reason},
        }

    # Records

    def _begin(
        self,
        id: str,
        inputs: Mapping[str, Any],
        seconds: float,
        cancellation: Cancellation,
        *,
        waiting: str = "",
    ) -> Begun:
        begun = self._insist(
            lambda: self._executions.begin_step(id, inputs=inputs, seconds=seconds, waiting=waiting), cancellation
        )
        if begun.cancelled:
            raise Cancelled
        return begun

    def _end(
        self,
        step: Step,
        log: BuildLog,
        result: Json,
        cancellation: Cancellation,
        *,
        seconds: Mapping[str, float] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> Json:
        status = str(result["status"])
        words = f": {result['message']}" if result.get("message") else ""
        log.line("workflow", f"{self._place.id} {step.name} {status}{words}")
        id = step_id(self._place.id, step.name)
        self._insist(
            lambda: self._executions.end_step(id, status, result, stages=seconds, facts=facts), cancellation
        )
        return result

    def _skip(self, step: Step, inputs: Mapping[str, Any], cancellation: Cancellation) -> Json:
        result: Json = {"status": "SKIPPED"}
        with self._shop.log(self._plan.image_arn) as log:
            log.line("workflow", f"{self._place.id} {step.name} SKIPPED")
        id = step_id(self._place.id, step.name)
        self._insist(lambda: self._executions.skip_step(id, inputs, result), cancellation)
        return result

    def _fail_at_once(self, step: Step, message: str, cancellation: Cancellation) -> Json:
        """A step whose condition or inputs cannot be had (3.6)."""
        id = step_id(self._place.id, step.name)
        begun = self._begin(id, step.inputs, float(step.timeout_seconds), cancellation)
        if begun.result is not None:
            return dict(begun.result)
        result: Json = {"status": "FAILED", "message": message, "outputs": {"errorMessage": message}}
        with self._shop.log(self._plan.image_arn) as log:
            return self._end(step, log, result, cancellation)

    def _note_stop(self, id: str) -> None:
        with contextlib.suppress(StoreUnavailable):
            self._executions.note_stop(id)

    def _insist(self, action: Callable[[], Value], cancellation: Cancellation) -> Value:
        return insist(action, self._shop.reserve, cancellation)

    # Waiting (8)

    def _wait(self, step: Step, scope: Scope) -> Json:
        paused = self._journal.step(f"{self._tag} {step.name}", lambda it: self._pause(step, scope, it))
        if paused["status"] != "WAITING":
            return paused
        id = step_id(self._place.id, step.name)

        def poll(cancellation: Cancellation) -> Json | None:
            answer = self._insist(lambda: self._executions.answer(id), cancellation)
            if answer is not None and answer.get("late"):
                answer = self._insist(lambda: self._executions.end_wait(id), cancellation)
            if answer is not None and answer.get("cancelled"):
                raise Cancelled
            if answer is None:
                return None
            return self._answered(step, answer, cancellation)

        # a timer that comes a moment early would find the wait not over, and no other comes
        return self._journal.wait(f"{self._tag} {step.name} answer", poll, seconds=paused["seconds"] + 1.0)

    def _pause(self, step: Step, scope: Scope, cancellation: Cancellation) -> Json:
        """Enter WAITING and tell who is to be told (8.1)."""
        try:
            if not evaluate_condition(step.condition, scope):
                return self._skip(step, step.inputs, cancellation)
            inputs = self._inputs(step, scope)
        except Unresolvable as error:
            return self._fail_at_once(step, error.message, cancellation)
        allowed, _ = self._allowed(step)
        id = step_id(self._place.id, step.name)
        # before anybody can see that the step waits: from then on the process may die and nothing is lost
        self._shop.instances.rest(self._plan.image_arn, self._place.id)
        begun = self._begin(id, inputs, allowed, cancellation, waiting=self._place.key)
        if begun.result is not None:
            return dict(begun.result)
        with self._shop.log(self._plan.image_arn) as log:
            log.line("workflow", f"{self._place.id} {step.name} WAITING for an answer to {id}")
            try:
                notify(self._work(step.name, log, cancellation, allowed, {}), inputs, self._message(step, inputs))
            except StepFailed as error:
                return self._end(step, log, self._failed(step.name, error), cancellation)
        return {"status": "WAITING", "seconds": allowed}

    def _message(self, step: Step, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """What topics and functions are told (8.3)."""
        message: dict[str, Any] = {
            "imageArn": self._plan.image_arn,
            "workflowArn": self._planned.arn,
            "workflowExecutionId": self._place.id,
            "workflowStepExecutionId": step_id(self._place.id, step.name),
            "workflowStepName": step.name,
            "version": "1.0",
        }
        return message | ({"customPayload": _payload(str(inputs["payload"]))} if "payload" in inputs else {})

    def _answered(self, step: Step, answer: Mapping[str, Any], cancellation: Cancellation) -> Json:
        if answer.get("status"):
            return dict(answer)
        outputs = {name: answer[name] for name in ("action", "reason") if name in answer}
        result: Json = {"status": "COMPLETED", "outputs": outputs}
        if answer.get("late"):
            message = self._allowed(step)[1]
            result = {"status": "FAILED", "message": message, "outputs": {"errorMessage": message}}
        elif answer["action"] == "STOP":
            message = f"The step was stopped{': ' + answer['reason'] if answer.get('reason') else ''}"
            result = {"status": "FAILED", "message": message, "outputs": {**outputs, "errorMessage": message}}
        with self._shop.log(self._plan.image_arn) as log:
            return self._end(step, log, result, cancellation)

    # Ends

    def _complete(self, scope: Scope, ran: Sequence[Step], containers: Sequence[Mapping[str, Any]]) -> Ended | None:
        outputs = resolve_outputs(self._document, scope)
        facts: Json = {}
        for name, finish in self._finish:
            result = self._journal.step(
                f"{self._tag} {name}", partial(self._last, name, finish, {**outputs, **facts})
            )
            if result["status"] == "LOST":
                return None
            if result["status"] == "FAILED":
                return self._roll_back(name, "", ran, scope, result)
            facts.update(result["facts"])
        self._journal.conclude(f"{self._tag} over", lambda it: self._close("COMPLETED", "", it))
        return Ended("COMPLETED", outputs=outputs, containers=containers, digest=facts.get("digest", ""))

    def _last(self, name: str, finish: Finish, given: Mapping[str, Any], cancellation: Cancellation) -> Json:
        """A piece of the end of a BUILD workflow; it has no step of the document."""
        seconds: dict[str, float] = {}
        count = f"{self._tag} {name}"
        with self._shop.log(self._plan.image_arn) as log:
            if self._executions.is_cancelled(self._place.id):
                raise Cancelled
            begun = self._insist(
                lambda: self._shop.records.count_attempt(self._plan.image_arn, count), cancellation
            )
            if begun > _ATTEMPTS:
                reason = f"the server died {begun - 1} times at the end of the build; it is not tried again"
                return {"status": "FAILED", "message": reason}
            if begun > 1:
                log.line(
                    LABELS[self._planned.type],
                    f"the server stopped at the end of the build; attempt {begun} begins",
                )
            try:
                run = self._work(name, log, cancellation, 0.0, seconds)
                facts = finish(run, given)
            except Cancelled:
                self._shop.records.uncount_attempt(self._plan.image_arn, count)
                raise
            except InstanceGone:
                verdict = self._lost(name, log, orderly=False)
                return {"status": "LOST"} if verdict == "LOST" else {"status": "FAILED", "message": verdict}
            except Exception as error:
                return self._failed(name, error)
        self._insist(lambda: self._shop.records.note_stages(self._plan.image_arn, seconds), cancellation)
        return {"status": "COMPLETED", "facts": facts}

    def _abort(self, step: Step, ran: Sequence[Step], scope: Scope, result: Json) -> Ended:
        return self._roll_back(step.name, step_id(self._place.id, step.name), ran, scope, result)

    def _roll_back(self, name: str, id: str, ran: Sequence[Step], scope: Scope, result: Json) -> Ended:
        message = str(result["message"])
        reason = f"Workflow Execution ID: '{self._place.id}' failed with reason: {message}"
        context = {
            "workflowExecutionId": self._place.id,
            "workflowArn": self._planned.arn,
            **({"stepExecutionId": id, "failedStep": name} if id else {}),
            **result.get("context", {}),
        }
        undone = self._journal.conclude(f"{self._tag} rollback", lambda it: self._undo(reason, ran, scope, it))
        return Ended(undone["status"], reason, context, containers=result.get("containers", ()))

    def _undo(self, reason: str, ran: Sequence[Step], scope: Scope, stopping: Cancellation) -> Json:
        """Roll back in reverse order, beginning with the step that failed (6.4)."""
        self._insist(lambda: self._executions.set_status(self._place.id, "ROLLBACK_IN_PROGRESS", reason), stopping)
        statuses: dict[str, str] = {}
        eligible = False
        for step in reversed(ran):
            enabled = _enabled(step, scope)
            eligible = eligible or enabled
            statuses[step_id(self._place.id, step.name)] = self._undo_step(step) if enabled else "SKIPPED"
        status = "ROLLBACK_COMPLETED" if eligible and "FAILED" not in statuses.values() else "FAILED"
        self._insist(lambda: self._executions.roll_back_steps(statuses), stopping)
        return self._close(status, reason, stopping)

    def _undo_step(self, step: Step) -> str:
        if step.action == "CollectImageMetadata":
            self._shop.records.put_inventory(self._plan.image_arn, [], os_version="")
            return "COMPLETED"
        if step.action != LAUNCH or self._plan.keep_failed_instance:
            return "SKIPPED"
        try:
            self._shop.instances.terminate(instance_id(self._place.id, step.name), image_arn=self._plan.image_arn)
        except (ProcessFailed, InstanceError, OSError) as error:
            with self._shop.log(self._plan.image_arn) as log:
                log.line("workflow", f"{self._place.id} {step.name} rollback failed: {error}")
            return "FAILED"
        return "COMPLETED"

    def _close(self, status: str, reason: str, stopping: Cancellation) -> Json:
        self._insist(lambda: self._executions.set_status(self._place.id, status, reason), stopping)
        with self._shop.log(self._plan.image_arn) as log:
            log.line("workflow", f"{self._place.id} {status}")
        return {"status": status}


def _result(outcome: Outcome) -> Json:
    if outcome.skipped:
        return {"status": "SKIPPED"}
    result: Json = {"status": "COMPLETED", "outputs": dict(outcome.outputs)}
    return result | ({"containers": [dict(item) for item in outcome.containers]} if outcome.containers else {})


def _payload(text: str) -> Any:
    """The value of a payload that is JSON, else the text itself (8.3)."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _enabled(step: Step, scope: Scope) -> bool:
    try:
        return evaluate_rollback(step, scope)
    except Unresolvable:
        return True
