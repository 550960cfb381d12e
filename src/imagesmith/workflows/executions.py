"""The records of workflow runs as users see them (spec/workflows.md 6.1, 10), and what a waiting step is told.

    workflow   PENDING -> RUNNING -> COMPLETED | FAILED | ROLLBACK_IN_PROGRESS -> ROLLBACK_COMPLETED
                                   | CANCELLED | SKIPPED
    step       PENDING -> RUNNING | WAITING -> COMPLETED | FAILED | SKIPPED | CANCELLED

Every change is one transaction that looks at what it leaves. The end of a step is kept with its result, so a step
that ended but was not journalled is not done again.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection

from imagesmith.events.messages import step_waiting
from imagesmith.recipes.plan import PlannedWorkflow
from imagesmith.store import executions, queries
from imagesmith.store.database import Database
from imagesmith.store.events import put_event
from imagesmith.store.executions import WAITING, StepExecution, WorkflowExecution
from imagesmith.store.records import microseconds
from imagesmith.values.final_states import FINAL_EXECUTION, FINAL_STEP
from imagesmith.values.names import iso_instant
from imagesmith.workflows.document import Step, WorkflowDocument

_MESSAGE_LIMIT = 500
_NEVER = 0
_KEPT = ("_deaths", "_cancel", "_given", "startTime")
"""What a new attempt of a run keeps of the one before."""


def execution_id(image_arn: str, name: str) -> str:
    """`wf-<uuid>`, the same whenever a run of this image comes to the same place."""
    return f"wf-{uuid.uuid5(uuid.NAMESPACE_URL, f'{image_arn}#{name}')}"


def step_id(execution: str, name: str) -> str:
    return f"step-{uuid.uuid5(uuid.NAMESPACE_URL, f'{execution}#{name}')}"


@dataclass(frozen=True)
class Begun:
    """How a step begins: how often it did before, and its result when it ended already."""

    times: int = 1
    stopped: int = 0
    """How many of them an orderly stop of the server ended."""
    cancelled: bool = False
    result: Mapping[str, Any] | None = None


class Executions:
    """The records of one image's runs: writes them, and reads what was decided about them."""

    def __init__(self, database: Database, image_arn: str, clock: Callable[[], datetime]) -> None:
        _, _, _, self._region, self._account, _ = image_arn.split(":")
        self._database = database
        self._image_arn = image_arn
        self._clock = clock

    def open(
        self,
        planned: PlannedWorkflow,
        document: WorkflowDocument,
        *,
        id: str,
        position: int,
        status: str = "RUNNING",
        given: Mapping[str, Any] | None = None,
    ) -> None:
        """Make the records of a run and of its steps; those of an earlier attempt are replaced.

        `given` is what a part of a run is told when it starts.
        """
        now = iso_instant(self._clock())
        shown: dict[str, Any] = {"workflowBuildVersionArn": planned.arn, "type": planned.type, "startTime": now}
        if given is not None:
            shown["_given"] = dict(given)
        if status in FINAL_EXECUTION:
            shown["endTime"] = now
        if planned.parallel_group:
            shown["parallelGroup"] = planned.parallel_group
        owner = {"image_arn": self._image_arn, "account": self._account, "region": self._region}
        steps = [
            StepExecution(
                id=step_id(id, step.name), execution_id=id, **owner, position=number,
                status="SKIPPED" if status == "SKIPPED" else "PENDING", started=_NEVER,
                document=_shown_step(step),
            )
            for number, step in enumerate(document.steps)
        ]  # fmt: skip
        with self._writing() as tx:
            earlier = executions.get_execution(tx, id)
            if earlier is not None and earlier.status in FINAL_EXECUTION:
                return
            if earlier is not None:
                shown |= {name: value for name, value in earlier.document.items() if name in _KEPT}
                steps = _with_answers(steps, executions.steps_of(tx, id))
            execution = WorkflowExecution(id=id, **owner, position=position, status=status, document=shown)
            executions.put_execution(tx, execution, steps)

    def begin_step(self, id: str, *, inputs: Mapping[str, Any], seconds: float, waiting: str = "") -> Begun:
        """Enter RUNNING, unless the step ended already or the run is cancelled.

        With `waiting`, the key that wakes its run: enter WAITING, with a deadline.
        """
        now = self._clock()
        with self._writing() as tx:
            step = executions.get_step(tx, id)
            if step is None or self._is_cancelled(tx, step.execution_id):
                return Begun(cancelled=True)
            known = step.document
            begun = Begun(
                int(known.get("_begun", 0)) + 1, int(known.get("_stopped", 0)), result=known.get("_result")
            )
            if begun.result is not None:
                return begun
            changes = {
                "inputs": json.dumps(inputs), "timeoutSeconds": int(seconds), "startTime": iso_instant(now),
                "_begun": begun.times,
            }  # fmt: skip
            started = microseconds(now)
            if waiting:
                changes["_run"] = waiting
            if waiting and "_deadline" in known:
                # a wait that begins again after a crash keeps its deadline
                started, changes["startTime"] = step.started, known["startTime"]
            elif waiting:
                changes["_deadline"] = microseconds(now + timedelta(seconds=seconds))
                self._tell_waiting(tx, step, now)
            waits = waiting and "_answer" not in known
            executions.update_step(tx, step, WAITING if waits else "RUNNING", changes, started=started)
            return begun

    def end_step(
        self,
        id: str,
        status: str,
        result: Mapping[str, Any],
        *,
        stages: Mapping[str, float] | None = None,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        """Enter a final state. `result` has outputs and message; `stages`: names and seconds for the image;
        `facts`: what else becomes known of the image."""
        with self._writing() as tx:
            step = executions.get_step(tx, id)
            if step is None or step.status in FINAL_STEP:
                return
            self._end(tx, step, status, result)
            if stages:
                queries.add_stages(tx, self._image_arn, stages)
            if facts:
                queries.update_outcome(tx, self._image_arn, facts)

    def skip_step(self, id: str, inputs: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """A step that does not run: its inputs stay as they are written (6.2)."""
        now = self._clock()
        stamp = iso_instant(now)
        with self._writing() as tx:
            step = executions.get_step(tx, id)
            if step is not None and step.status not in FINAL_STEP:
                changes = {
                    "inputs": json.dumps(inputs), "startTime": stamp, "endTime": stamp, "_result": dict(result)
                }  # fmt: skip
                executions.update_step(tx, step, "SKIPPED", changes, started=microseconds(now))

    def note_stop(self, id: str) -> None:
        """An orderly stop of the server ended the step; that does not use up one of its attempts."""
        with self._writing() as tx:
            step = executions.get_step(tx, id)
            if step is not None:
                stopped = {"_stopped": int(step.document.get("_stopped", 0)) + 1}
                executions.update_step(tx, step, step.status, stopped)

    def answer(self, id: str) -> Mapping[str, Any] | None:
        """What became of a waiting step: what was sent, `late`, `cancelled`, or None so far."""
        with self._database.read() as tx:
            step = executions.get_step(tx, id)
            if step is None or self._is_cancelled(tx, step.execution_id):
                return {"cancelled": True}
        given = step.document.get("_answer")
        if given is not None:
            return dict(given)
        return {"late": True} if microseconds(self._clock()) >= int(step.document["_deadline"]) else None

    def end_wait(self, id: str) -> Mapping[str, Any]:
        """Decide a wait whose time is over: an answer that came just before counts, a later one is refused."""
        with self._writing() as tx:
            step = executions.get_step(tx, id)
            given = None if step is None else step.document.get("_answer")
            if step is None or given is not None:
                return dict(given or {"cancelled": True})
            executions.update_step(tx, step, "RUNNING", {})
            return {"late": True}

    def roll_back_steps(self, statuses: Mapping[str, str]) -> None:
        """Step -> its rollbackStatus."""
        with self._writing() as tx:
            for id, status in statuses.items():
                step = executions.get_step(tx, id)
                if step is not None:
                    executions.update_step(tx, step, step.status, {"rollbackStatus": status})

    def set_status(self, id: str, status: str, message: str = "", outputs: Mapping[str, Any] | None = None) -> None:
        """Move a run that has not ended; a final state gets its time. `outputs`: what it put out, for a retry."""
        with self._writing() as tx:
            execution = executions.get_execution(tx, id)
            if execution is None or execution.status in FINAL_EXECUTION:
                return
            changes: dict[str, Any] = {"endTime": iso_instant(self._clock())} if status in FINAL_EXECUTION else {}
            if message:
                changes["message"] = message[:_MESSAGE_LIMIT]
            if outputs is not None:
                changes["_outputs"] = dict(outputs)
            executions.update_execution(tx, execution, status, changes)

    def outputs(self, id: str) -> Mapping[str, Any]:
        """What a run put out that is COMPLETED; nothing for any other."""
        with self._database.read() as tx:
            execution = executions.get_execution(tx, id)
        return {} if execution is None else execution.document.get("_outputs", {})

    def count_death(self, id: str) -> int:
        """How often the server died in a run, this time included."""
        with self._writing() as tx:
            execution = executions.get_execution(tx, id)
            if execution is None:
                return 0
            deaths = int(execution.document.get("_deaths", 0)) + 1
            executions.update_execution(tx, execution, execution.status, {"_deaths": deaths})
            return deaths

    def status(self, id: str) -> str:
        """The state of a run; empty when it was not opened yet."""
        with self._database.read() as tx:
            execution = executions.get_execution(tx, id)
        return "" if execution is None else execution.status

    def result(self, id: str) -> Mapping[str, Any] | None:
        """What a part of the run left for the others when it ended."""
        with self._database.read() as tx:
            execution = executions.get_execution(tx, id)
        return None if execution is None else execution.document.get("_result")

    def given(self, id: str) -> Mapping[str, Any]:
        """What a part of the run was told when it was opened."""
        with self._database.read() as tx:
            execution = executions.get_execution(tx, id)
        return {} if execution is None else execution.document["_given"]

    def keep_result(self, id: str, result: Mapping[str, Any]) -> None:
        """Leave for the others how a part of the run ended."""
        with self._writing() as tx:
            execution = executions.get_execution(tx, id)
            if execution is not None:
                executions.update_execution(tx, execution, execution.status, {"_result": dict(result)})

    def is_cancelled(self, id: str) -> bool:
        with self._database.read() as tx:
            return self._is_cancelled(tx, id)

    def ask_to_cancel(self, ids: Sequence[str]) -> None:
        """Ask runs of the image to stop; the next step of each, or the one that waits, sees it."""
        with self._writing() as tx:
            for id in ids:
                execution = executions.get_execution(tx, id)
                if execution is not None:
                    executions.update_execution(tx, execution, execution.status, {"_cancel": True})

    def end_cancelled(self, only: str = "") -> None:
        """CANCELLED is everything of the image, or of one run of it, that has not ended (11.1)."""
        with self._writing() as tx:
            for execution in executions.executions_of(tx, self._image_arn):
                if execution.status in FINAL_EXECUTION or only not in ("", execution.id):
                    continue
                for step in executions.steps_of(tx, execution.id):
                    if step.status not in FINAL_STEP:
                        self._end(tx, step, "CANCELLED", {})
                ended = {"endTime": iso_instant(self._clock())}
                executions.update_execution(tx, execution, "CANCELLED", ended)

    def _end(self, tx: Connection, step: StepExecution, status: str, result: Mapping[str, Any]) -> None:
        changes: dict[str, Any] = {"_result": dict(result)}
        if step.started:
            changes["endTime"] = iso_instant(self._clock())
        if result.get("outputs"):
            changes["outputs"] = json.dumps(result["outputs"])
        if result.get("message"):
            changes["message"] = str(result["message"])[:_MESSAGE_LIMIT]
        executions.update_step(tx, step, status, changes)

    def _tell_waiting(self, tx: Connection, step: StepExecution, now: datetime) -> None:
        execution = executions.get_execution(tx, step.execution_id)
        if execution is not None:
            put_event(tx, step_waiting(step, execution.document["workflowBuildVersionArn"], moment=now))

    def _is_cancelled(self, tx: Connection, id: str) -> bool:
        build = queries.get_build(tx, self._image_arn)
        if build is None or build.cancel_requested:
            return True
        execution = executions.get_execution(tx, id)
        return execution is None or bool(execution.document.get("_cancel"))

    def _writing(self) -> AbstractContextManager[Connection]:
        return self._database.write(f"{self._account}/{self._region}")


def _with_answers(steps: Sequence[StepExecution], earlier: Sequence[StepExecution]) -> list[StepExecution]:
    """Nobody is asked again because a server died: what a waiting step was told holds in a new attempt."""
    given = {step.id: step.document["_answer"] for step in earlier if "_answer" in step.document}
    return [
        replace(step, document={**step.document, "_answer": given[step.id]}) if step.id in given else step
        for step in steps
    ]


def _shown_step(step: Step) -> dict[str, Any]:
    shown: dict[str, Any] = {"name": step.name, "action": step.action, "onFailure": step.on_failure}
    if step.description:
        shown["description"] = step.description[:_MESSAGE_LIMIT]
    return {**shown, "timeoutSeconds": step.timeout_seconds}
