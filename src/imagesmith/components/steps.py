"""One step: condition, attempts, iterations, time limit, reboots (spec/components.md 5, 7, 8.2, 9).

condition --Skip--> skipped
    |     --Abort-> failed
    v Execute
attempt 1..maxAttempts            each with its own time limit over all its iterations
    iteration 0..n                the first failing one ends the attempt
        inputs resolved -> action -> outputs
                              '--> reboot: the same iteration again, or on to the next
    all ended well --> success
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from imagesmith.components.actions.assertions import ASSERT, InstanceProbe
from imagesmith.components.actions.base import (
    ActionContext,
    ActionFailed,
    ActionResult,
    ActionTimedOut,
    NestedRequest,
)
from imagesmith.components.actions.registry import action_registry
from imagesmith.components.actions.transfer import uses_network
from imagesmith.components.attempt import StepAttempt
from imagesmith.components.inputs import recorded_inputs, resolve_data, typed_inputs
from imagesmith.components.loops import Iteration, loop_record, loop_values
from imagesmith.components.model import NO_TIMEOUT, ComponentStep, GuardAction
from imagesmith.components.operators import ComponentConditionError, is_true
from imagesmith.components.reporting import OutputLines, ReportedStep
from imagesmith.components.results import StepResult, printable
from imagesmith.components.schema import ActionInputError
from imagesmith.components.scope import DocumentScope, StepRecord, UnresolvedReference
from imagesmith.components.step_environment import StepEnvironment
from imagesmith.instances.protocol import InstanceError
from imagesmith.processes import Stream
from imagesmith.values.expansion import TooLarge

_GUARD_SECONDS: Final = 300.0


@dataclass(frozen=True)
class StepOutcome:
    """`result` is masked, for people; `record` is for later steps."""

    result: StepResult
    record: StepRecord


@dataclass
class ComponentStepRun:
    """One step in the course of a run."""

    step_environment: StepEnvironment
    scope: DocumentScope
    phase: str
    step: ComponentStep
    reported: ReportedStep
    key: str
    """Its key in the journal."""
    logged: bool
    run_nested: Callable[[NestedRequest, str], ActionResult]

    def run(self) -> StepOutcome:
        clock = self.step_environment.clock
        started = clock.now()
        try:
            chosen = self._guard()
        except (UnresolvedReference, ComponentConditionError, InstanceError, ActionFailed) as error:
            failed = StepAttempt(status="failed", message=str(error), error=str(error))
            return self._result(failed, started, attempts=0)
        if chosen == "Skip":
            return self._result(StepAttempt(status="skipped"), started, attempts=0)
        if chosen == "Abort":
            message = "the condition of the step returned Abort"
            return self._result(StepAttempt(status="failed", message=message, error=message), started, attempts=0)
        try:
            values = self._loop_values()
        except (UnresolvedReference, TooLarge, InstanceError) as error:
            failed = StepAttempt(status="failed", message=str(error), error=str(error))
            return self._result(failed, started, attempts=0)
        return self._attempts(values, started)

    def _attempts(self, values: Sequence[str | int] | None, started: datetime) -> StepOutcome:
        first = self.step_environment.progress.last_attempt(self.key)
        executed = False
        for number in range(first, self.step.max_attempts + 1):
            attempt = self._attempt(values, number)
            executed = attempt.started = attempt.started or executed
            if attempt.status == "success" or number == self.step.max_attempts:
                break
            self.step_environment.reporter.line(
                f"Step {self.step.name}: attempt {number} of {self.step.max_attempts} failed"
            )
        return self._result(attempt, started, attempts=number)

    def _guard(self) -> GuardAction:
        """The result of the condition; evaluated once, also across a reboot."""
        guard = self.step.guard
        if guard is None:
            return "Execute"
        stored = self.step_environment.progress.condition(self.key)
        if stored in ("Execute", "Skip", "Abort"):
            return stored  # type: ignore[return-value]
        output = OutputLines(self.step_environment.reporter, self.scope.secrets)
        context = self._context(lambda: _GUARD_SECONDS, output)
        resolve = self.scope.resolver(self.phase, self.step)
        chosen = guard.then if is_true(guard.expression, resolve, InstanceProbe(context)) else guard.otherwise
        self.step_environment.progress.record("condition", self.key, result=chosen)
        return chosen

    def _loop_values(self) -> Sequence[str | int] | None:
        if self.step.loop is None:
            return None
        return loop_values(self.step.loop, self.scope.resolver(self.phase, self.step))

    def _attempt(self, values: Sequence[str | int] | None, number: int) -> StepAttempt:
        attempt = StepAttempt()
        done = self.step_environment.progress.iterations(self.key, number)
        for entry in done:
            attempt.outputs.add(entry["outputs"])
            attempt.inputs = entry["inputs"]
            attempt.started = True
        remaining = self._budget()
        for index, value in enumerate([None] if values is None else values):
            if index < len(done):
                continue
            iteration = None if value is None else Iteration(index, str(value))
            try:
                result = self._iterate(attempt, iteration, remaining)
                if iteration is not None or result.reboot == "next":
                    self._record_iteration(attempt, number, index, result)
                if result.reboot == "next":
                    self.step_environment.reboot(self.key)
            except ActionTimedOut as failure:
                attempt.time_out(failure, iteration, seconds=self.step.timeout_seconds)
                break
            except (
                ActionFailed,
                InstanceError,
                UnresolvedReference,
                ActionInputError,
                ComponentConditionError,
            ) as failure:
                attempt.fail(failure, iteration)
                break
            attempt.outputs.add(result.outputs)
            attempt.detailed += result.detailed
        return attempt

    def _record_iteration(self, attempt: StepAttempt, number: int, index: int, result: ActionResult) -> None:
        self.step_environment.progress.record(
            "iteration",
            self.key,
            attempt=number,
            index=index,
            inputs=attempt.inputs,
            outputs=list(result.outputs),
        )

    def _iterate(
        self, attempt: StepAttempt, iteration: Iteration | None, remaining: Callable[[], float | None]
    ) -> ActionResult:
        """Run the action until it no longer requests to run again after a reboot."""
        while True:
            self.step_environment.cancellation.check()
            result = self._run_action(attempt, iteration, remaining)
            if result.reboot != "again":
                return result
            self.step_environment.reporter.line("Getting reboot signal")
            self.step_environment.reboot(self.key)
            remaining = self._budget()

    def _run_action(
        self, attempt: StepAttempt, iteration: Iteration | None, remaining: Callable[[], float | None]
    ) -> ActionResult:
        action = action_registry()[self.step.action]
        resolve = self.scope.resolver(self.phase, self.step, iteration)
        remaining()
        resolved = [resolve_data(entry, resolve) for entry in self.step.entries]
        attempt.inputs = resolved
        typed = [] if action.run is None else typed_inputs(action, resolved)
        lines = OutputLines(self.step_environment.reporter, self.scope.secrets)
        context = self._context(remaining, lines)
        attempt.started = True
        try:
            if context.services.offline and uses_network(action.name, typed):
                raise ActionFailed(f"{action.name} needs a network, and that of this recipe is switched off")
            if action.run is not None:
                return action.run(context, typed)
            assert action.name == ASSERT and self.step.assertion is not None
            if not is_true(self.step.assertion, resolve, InstanceProbe(context)):
                raise ActionFailed("Assertion failed")
            return ActionResult()
        finally:
            lines.flush()

    def _context(self, remaining: Callable[[], float | None], lines: OutputLines) -> ActionContext:
        step_environment = self.step_environment

        def note(text: str) -> None:
            step_environment.reporter.line(printable(self.scope.secrets.mask(text)))

        def silent(stream: Stream, chunk: bytes) -> None:
            pass

        return ActionContext(
            instance=step_environment.instance,
            environment=step_environment.environment,
            working_directory=step_environment.working_directory,
            remaining=remaining,
            output=lines.feed if self.logged else silent,
            flush=lines.flush,
            note=note,
            services=step_environment.services,
            cancellation=step_environment.cancellation,
            run_nested=lambda request: self.run_nested(request, self.key),
        )

    def _budget(self) -> Callable[[], float | None]:
        """A function that returns the seconds left of this attempt."""
        limit = self.step.timeout_seconds
        if limit == NO_TIMEOUT:
            return lambda: None
        clock = self.step_environment.clock
        deadline = clock.monotonic() + limit

        def remaining() -> float:
            left = deadline - clock.monotonic()
            if left <= 0:
                raise ActionTimedOut("timed out")
            return left

        return remaining

    def _result(self, attempt: StepAttempt, started: datetime, *, attempts: int) -> StepOutcome:
        status = attempt.status
        if status in ("failed", "timedOut") and self.step.on_failure == "Ignore":
            status = "ignoredFailure"
        mask = self.scope.secrets.mask_data
        outputs = attempt.outputs.values()
        action = action_registry()[self.step.action]
        shown_inputs = recorded_inputs(action, attempt.inputs) if self.logged and attempt.started else []
        result = StepResult(
            name=self.step.name,
            action=self.step.action,
            status=status,
            started=started,
            ended=self.step_environment.clock.now(),
            timeout_seconds=self.step.timeout_seconds,
            on_failure=self.step.on_failure,
            max_attempts=self.step.max_attempts,
            position=self.step.position,
            failure_message=mask(attempt.message),
            error_message=mask(attempt.error),
            stderr=mask(attempt.stderr) if self.logged else "",
            inputs=tuple(mask(shown_inputs)),
            outputs=tuple(mask(outputs) if self.logged else ()),
            loop=mask(loop_record(self.step.loop)),
            detailed=tuple(attempt.detailed),
            attempts=attempts,
            script_line=attempt.script_line(self.step.script_lines),
            executed=attempt.started,
        )
        return StepOutcome(result, StepRecord(status, attempt.inputs, outputs))
