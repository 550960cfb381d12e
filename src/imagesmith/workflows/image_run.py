"""The run of an image: its workflows in the order of the stages (spec/workflows.md 7).

    PENDING -> CREATING -> BUILDING -----> TESTING ------------------> DISTRIBUTING ---------> AVAILABLE
                           BUILD workflow  TEST workflows, unit after  DISTRIBUTION workflow,
                           or the parent   unit; a unit is one, or a   or the distribution of
                           as it is        group of parallel parts     the plan
       any of them -> FAILED | CANCELLED
                      a retry goes on from there, in TESTING or DISTRIBUTING (workflows/retry.py)

The run of an image is one run of the engine. The workflows of a parallel group are runs of their own, at most
_AT_ONCE at a time; the image's run waits for them and starts the next when one has ended.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, TypeVar

from imagesmith.artifacts.storage import StorageError
from imagesmith.instances.protocol import InstanceError
from imagesmith.processes import Cancellation, Cancelled, ProcessFailed
from imagesmith.recipes.plan import BuildPlan
from imagesmith.store.runs import FenceLost
from imagesmith.values.names import iso_instant, parse_instant
from imagesmith.workflows.container import adopt_parent, finished_image, keep_image
from imagesmith.workflows.entries import Entry, entries_of, kept_outputs
from imagesmith.workflows.failures import StepFailed, explain
from imagesmith.workflows.instances import InstanceGone
from imagesmith.workflows.integration import distribute_amis
from imagesmith.workflows.journal import Journal, Json, image_of, part_key, part_of, retry_key
from imagesmith.workflows.log_groups import enter_image_log
from imagesmith.workflows.machine import adopted_disk, built_disk, shown_amis
from imagesmith.workflows.push import distribute, kept_containers
from imagesmith.workflows.records import Failure
from imagesmith.workflows.reserve import insist
from imagesmith.workflows.retry import Retry, current_key
from imagesmith.workflows.run import Ended, WorkflowRun
from imagesmith.workflows.scan_condition import scan_on_demand
from imagesmith.workflows.step_work import Place
from imagesmith.workflows.steps.context import StepRun
from imagesmith.workflows.work import Work
from imagesmith.workflows.workshop import Workshop

_log = logging.getLogger(__name__)

_AT_ONCE: Final = 5
_ATTEMPTS: Final = 3
_EVER: Final = 7 * 86400.0
"""Seconds that a wait for parts may take: their own steps have limits, so this is only the timer's."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class Result:
    """How an image ended, before that is written."""

    status: str
    stage: str = ""
    reason: str = ""
    context: Mapping[str, Any] | None = None
    containers: Sequence[Mapping[str, Any]] = ()


class ImageRuns:
    """The program of the engine: carries out the run of an image, or of one of its parallel parts."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop

    def run(self, key: str, journal: Journal) -> None:
        image_arn = image_of(key)
        build = insist(lambda: self._shop.records.build(image_arn), self._shop.reserve, Cancellation())
        execution = part_of(key)
        # what is left of a run that a retry followed has no say any more
        if build is None or (not execution and key != current_key(build)):
            return
        plan, retry = BuildPlan.from_json(build.plan), Retry.of(build.outcome)
        shop = self._shop if journal.fence is None else self._shop.under(journal.fence)
        run: _PartRun | _ImageRun = _ImageRun(shop, plan, journal, retry)
        if execution:
            run = _PartRun(shop, plan, journal, retry, execution)
        with self._sending(image_arn):
            try:
                run.run()
            except FenceLost:
                self._shop.abandon(plan, execution)
                raise

    @contextlib.contextmanager
    def _sending(self, image_arn: str) -> Iterator[None]:
        """What the run writes into logs is put where the other hosts find it."""
        sender = self._shop.sender
        if sender is None:
            yield
            return
        sender.begin(image_arn)
        try:
            yield
        finally:
            sender.end(image_arn)


class _Run:
    """What the run of an image and that of a part have in common."""

    def __init__(self, shop: Workshop, plan: BuildPlan, journal: Journal, retry: Retry) -> None:
        self._shop = shop
        self._plan = plan
        self._arn = plan.image_arn
        self._journal = journal
        self._retry = retry
        self._key = retry_key(self._arn, retry.number)
        """Of the image's run."""
        self._executions = shop.executions(plan.image_arn)

    def _entries(self) -> list[Entry]:
        return entries_of(self._plan, self._retry)

    def _workflow(self, entry: Entry, place: Place, **options: Any) -> WorkflowRun:
        return WorkflowRun(
            self._shop, self._plan, self._journal,
            planned=entry.planned, document=entry.document, parameters=entry.parameters, place=place, **options,
        )  # fmt: skip

    def _insist(self, action: Callable[[], Value], cancellation: Cancellation) -> Value:
        return insist(action, self._shop.reserve, cancellation)


class _ImageRun(_Run):
    """One image from PENDING to its end."""

    def run(self) -> None:
        enter_image_log(self._shop, self._plan)
        try:
            begun = self._journal.step("begin", self._begin)
            if begun["status"] == "over":
                return
            result = self._stages(begun)
        except Cancelled:
            result = Result("CANCELLED")
        except StepFailed as error:
            result = Result("FAILED", "CREATING", error.reason)
        except Exception as error:
            _log.error("the run of %s failed in an unexpected way", self._arn, exc_info=True)
            result = Result("FAILED", "", f"the run failed in an unexpected way: {error}")
        self._journal.conclude("finish", partial(self._finish, result))

    def _begin(self, cancellation: Cancellation) -> Json:
        if self._retry.number:
            return self._insist(self._begin_again, cancellation)

        def move() -> bool:
            return self._shop.records.move(self._arn, "CREATING")

        if not self._insist(move, cancellation):
            return {"status": "over"}
        at = iso_instant(self._shop.clock())
        return {"status": "ok", "at": at}

    def _begin_again(self) -> Json:
        """What the run before left: its output image, and what its workflows put out."""
        if not self._shop.records.is_running(self._arn, self._retry.number):
            return {"status": "over"}
        with self._shop.log(self._arn) as log:
            log.line("workflow", f"retry {self._retry.number} begins in {self._retry.phase}")
        entries = self._entries()
        built = {
            "outputs": kept_outputs(self._executions, entries, "BUILD"),
            "digest": self._shop.records.outcome(self._arn)["digest"],
        }
        tested = {"outputs": kept_outputs(self._executions, entries, "TEST")}
        at = iso_instant(self._shop.clock())
        return {"status": "ok", "at": at, "built": built, "tested": tested}

    def _stages(self, begun: Json) -> Result:
        entries = self._entries()
        builds = [entry for entry in entries if entry.planned.type == "BUILD"]
        tests = [entry for entry in entries if entry.planned.type == "TEST"]
        distributions = [entry for entry in entries if entry.planned.type == "DISTRIBUTION"]
        if self._retry.number:
            built = Ended("COMPLETED", **begun["built"])
        else:
            built = self._build(builds[0], parse_instant(begun["at"])) if builds else self._adopt()
        if not built.ok:
            return _failed("BUILDING", built)
        outputs, digest = dict(built.outputs), built.digest
        if self._retry.phase == "DISTRIBUTING":
            tested = Ended("COMPLETED", **begun["tested"])
        else:
            tested = self._test(tests, outputs, digest)
        if not tested.ok:
            return _failed("TESTING", tested)
        outputs |= tested.outputs
        if distributions:
            place = Place(distributions[0].id, distributions[0].position, self._key, outputs, digest)
            done = self._workflow(distributions[0], place).run(partial(self._enter, "DISTRIBUTING"))
        else:
            done = self._own_distribution(digest)
        if not done.ok:
            return _failed("DISTRIBUTING", done)
        if self._plan.kind == "machine":
            return Result("AVAILABLE")
        return Result("AVAILABLE", containers=done.containers or kept_containers(self._shop, self._plan))

    def _enter(self, status: str) -> None:
        """Move the image into a stage. Raises Cancelled when it has ended or is to stop."""
        if self._shop.records.is_cancelled(self._arn) or not self._shop.records.move(self._arn, status):
            raise Cancelled

    # BUILD

    def _build(self, entry: Entry, started: datetime) -> Ended:
        def commit(run: StepRun, outputs: Mapping[str, Any]) -> Json:
            return self._commit(run, outputs)

        def keep(run: StepRun, given: Mapping[str, Any]) -> Json:
            if self._shop.worker and not self._shop.storage.has_image(given["_image"]):
                raise InstanceGone("the worker that committed the image is gone, and the image with it")
            parent = self._shop.records.outcome(self._arn).get("parent", {})
            image = finished_image(run, given["_image"], parent_image=parent.get("image", ""))
            return {"digest": keep_image(run, image, parent_digest=parent.get("digest", ""), started=started)}

        def adopt(run: StepRun, outputs: Mapping[str, Any]) -> Json:
            return {"digest": built_disk(run, outputs, started=started)}

        finish = [("keep", adopt)] if self._plan.kind == "machine" else [("commit", commit), ("keep", keep)]
        run = self._workflow(entry, Place(entry.id, entry.position, self._key), finish=finish)
        return run.run(partial(self._enter, "BUILDING"))

    def _commit(self, run: StepRun, outputs: Mapping[str, Any]) -> Json:
        if "InstanceId" not in outputs:
            raise StepFailed("Build workflow must have output named InstanceId to build container.")
        id = str(outputs["InstanceId"]).strip()
        instance = run.container({"instanceId": id})
        run.say("committing the changes of the build instance")
        with run.timed("commit"):
            image = instance.commit(created_by="imagesmith components")
        if not self._plan.keep_completed_instance:
            try:
                self._shop.instances.terminate(id, image_arn=self._arn)
            except (ProcessFailed, OSError) as error:
                run.say(f"warning: the container is not removed yet: {error}")
        return {"_image": image}

    def _adopt(self) -> Ended:
        """Without a BUILD workflow the parent is the output image (7.2)."""

        def keep(work: Work) -> Json:
            adopt = adopted_disk if self._plan.kind == "machine" else adopt_parent
            return {"status": "COMPLETED", "digest": adopt(work)}

        return self._own_work("build", "BUILDING", keep)

    # TEST

    def _test(self, tests: Sequence[Entry], outputs: Mapping[str, Any], digest: str) -> Ended:
        scanned = self._scan_on_demand(digest)
        if not tests or not scanned.ok:
            return scanned
        if not self._plan.tests_enabled:
            self._journal.step("tests are off", partial(self._skip_all, tests))
            return Ended("COMPLETED")
        begun = self._journal.step("tests begin", self._enter_tests)
        minutes = self._plan.tests_timeout_minutes
        until = parse_instant(begun["at"]) + timedelta(minutes=minutes)
        limit = f"the tests did not end within timeoutMinutes ({minutes:g})"
        found: dict[str, Any] = {}
        for unit in _units(tests):
            known = {**outputs, **found}
            if len(unit) == 1:
                entry = unit[0]
                place = Place(entry.id, entry.position, self._key, known, digest, until, limit)
                results = [self._workflow(entry, place).run()]
            else:
                results = self._group(unit, known, digest, until)
            for entry, ended in zip(unit, results, strict=True):
                found |= ended.outputs
                if not ended.ok and not entry.planned.continue_on_failure:
                    return ended
        return Ended("COMPLETED", outputs=found)

    def _scan_on_demand(self, digest: str) -> Ended:
        """The scan of the AMI itself, where that was asked for; it belongs to the test phase."""
        scan = self._plan.scan
        if scan is None or not scan.on_demand:
            return Ended("COMPLETED")

        def judge(work: Work) -> Json:
            scan_on_demand(work, scan, digest)
            return {"status": "COMPLETED"}

        return self._own_work("scan", "TESTING", judge)

    def _enter_tests(self, cancellation: Cancellation) -> Json:
        self._insist(partial(self._enter, "TESTING"), cancellation)
        return {"at": iso_instant(self._shop.clock())}

    def _skip_all(self, tests: Sequence[Entry], cancellation: Cancellation) -> Json:
        for entry in tests:
            self._insist(partial(self._open, entry, "SKIPPED"), cancellation)
        return {}

    def _open(self, entry: Entry, status: str, given: Mapping[str, Any] | None = None) -> None:
        self._executions.open(
            entry.planned, entry.document, id=entry.id, position=entry.position, status=status, given=given
        )

    def _group(
        self, unit: Sequence[Entry], outputs: Mapping[str, Any], digest: str, until: datetime
    ) -> list[Ended]:
        """Run the members of a parallel group as parts; an abort cancels those that still run (7.3)."""
        given = {"outputs": dict(outputs), "digest": digest, "until": iso_instant(until)}

        def poll(cancellation: Cancellation) -> Json | None:
            return self._insist(partial(self._look_after, unit, given), cancellation)

        name = unit[0].planned.parallel_group
        ended: list[Json] = self._journal.wait(f"group {name}", poll, seconds=_EVER)["ended"]
        return [Ended(**item) for item in _abort_first(ended)]

    def _look_after(self, unit: Sequence[Entry], given: Mapping[str, Any]) -> Json | None:
        """Start what may start, stop what must stop; how all ended, once they have."""
        opened = [entry for entry in unit if self._executions.status(entry.id)]
        results = {entry.id: self._executions.result(entry.id) for entry in opened}
        running = [entry for entry in opened if results[entry.id] is None]
        cancelled = self._shop.records.is_cancelled(self._arn)
        aborted = any(
            result is not None and result["status"] != "COMPLETED" and not entry.planned.continue_on_failure
            for entry, result in ((entry, results.get(entry.id)) for entry in unit)
        )
        if cancelled or aborted:
            self._executions.ask_to_cancel([entry.id for entry in running])
            for entry in running:
                self._journal.cancel(part_key(self._arn, entry.id))
        else:
            waiting = [entry for entry in unit if entry not in opened][: _AT_ONCE - len(running)]
            for entry in waiting:
                self._open(entry, "PENDING", given)
            for entry in (*running, *waiting):
                self._journal.start(part_key(self._arn, entry.id))
            running += waiting
        if running:
            return None
        if cancelled:
            raise Cancelled
        return {"ended": [dict(results.get(entry.id) or {"status": "CANCELLED"}) for entry in unit]}

    # DISTRIBUTION

    def _own_distribution(self, digest: str) -> Ended:
        """Without a DISTRIBUTION workflow the plan's own distribution takes place, without a record (7.2)."""

        def push(work: Work) -> Json:
            if self._plan.kind == "machine":
                distribute_amis(work)
                return {"status": "COMPLETED"}
            with work.timed("distribute"):
                return {"status": "COMPLETED", "containers": list(distribute(work, digest).containers)}

        return self._own_work("distribute", "DISTRIBUTING", push)

    def _own_work(self, name: str, status: str, work: Callable[[Work], Json]) -> Ended:
        """A stage that no document describes, as one step of the journal."""

        def carry_out(cancellation: Cancellation) -> Json:
            self._insist(partial(self._enter, status), cancellation)
            begun = self._insist(lambda: self._shop.records.count_attempt(self._arn, name), cancellation)
            seconds: dict[str, float] = {}
            with self._shop.log(self._arn) as log:
                if begun > _ATTEMPTS:
                    return _reason(f"the server died {begun - 1} times during this stage; it is not tried again")
                if begun > 1:
                    log.line(name, f"the server stopped during this stage; attempt {begun} begins from its start")
                try:
                    result = work(Work(self._shop, self._plan, log, cancellation, seconds))
                except Cancelled:
                    self._shop.records.uncount_attempt(self._arn, name)
                    raise
                except Exception as error:
                    return self._explained(name, error)
            self._insist(lambda: self._shop.records.note_stages(self._arn, seconds), cancellation)
            return result

        return Ended(**self._journal.step(name, carry_out))

    def _explained(self, name: str, error: Exception) -> Json:
        if not isinstance(error, StepFailed | InstanceError | ProcessFailed | OSError):
            _log.error("stage %s of %s failed in an unexpected way", name, self._arn, exc_info=True)
        failure = explain(error, f"the {name} stage", free=self._shop.reserve.free)
        return {
            **_reason(failure.reason), "context": dict(failure.context),
            "containers": [dict(item) for item in failure.containers],
        }  # fmt: skip

    # The end

    def _finish(self, result: Result, stopping: Cancellation) -> Json:
        """Remove what the build leaves behind and write the final state, however long that takes."""
        self._shop.reserve.make_room(stopping)
        number = self._retry.number
        if not self._insist(lambda: self._shop.records.is_running(self._arn, number), stopping):
            return {}
        cancelled = result.status == "CANCELLED" or self._insist(
            lambda: self._shop.records.is_cancelled(self._arn), stopping
        )
        failed = result.status == "FAILED" and not cancelled
        keep = self._plan.keep_failed_instance if failed else self._plan.keep_completed_instance
        if cancelled:
            self._insist(self._executions.end_cancelled, stopping)
        self._clear(keep, stopping)
        self._insist(lambda: self._write_end(result, cancelled=cancelled, failed=failed), stopping)
        return {}

    def _clear(self, keep: bool, stopping: Cancellation) -> None:
        try:
            kept = self._insist(lambda: self._shop.clear(self._plan, keep=keep), stopping)
        except (ProcessFailed, StorageError, OSError) as error:
            _log.warning("what %s left behind stays until the next start: %s", self._arn, error)
            return
        with contextlib.suppress(OSError), self._shop.log(self._arn) as log:
            for instance in kept:
                enter, remove = self._shop.how_to_enter(instance)
                log.line("end", f"the instance {instance} is kept; enter it with: {enter}")
                log.line("end", f"remove it with: {remove}")

    def _write_end(self, result: Result, *, cancelled: bool, failed: bool) -> None:
        # a cancel that came too late to stop anything was accepted all the same, and clients wait for its state
        status = "CANCELLED" if cancelled else result.status
        failure = None
        if failed:
            stage = {"imageStatus": result.stage} if result.stage else {}
            failure = Failure(result.reason, {**stage, **(result.context or {})})
        containers = [dict(item) for item in result.containers] or None
        outputs = {"containers": containers} if containers else None
        if self._plan.kind == "machine":
            outputs = {"amis": shown_amis(self._shop, self._arn)}
        self._shop.records.finish(self._arn, status, failure=failure, outputs=outputs, number=self._retry.number)
        with contextlib.suppress(OSError), self._shop.log(self._arn) as log:
            log.line("end", status if failure is None else f"{status}: {failure.reason}")


class _PartRun(_Run):
    """One workflow of a parallel group."""

    def __init__(self, shop: Workshop, plan: BuildPlan, journal: Journal, retry: Retry, id: str) -> None:
        super().__init__(shop, plan, journal, retry)
        self._id = id

    def run(self) -> None:
        entry = next((item for item in self._entries() if item.id == self._id), None)
        if entry is None:
            return  # of a run that a retry followed
        given = self._insist(lambda: self._executions.given(self._id), Cancellation())
        minutes = self._plan.tests_timeout_minutes
        place = Place(
            self._id, entry.position, part_key(self._arn, self._id), given["outputs"], given["digest"],
            parse_instant(given["until"]), f"the tests did not end within timeoutMinutes ({minutes:g})",
        )  # fmt: skip
        try:
            ended = self._workflow(entry, place).run().to_json()
        except Cancelled:
            ended = {"status": "CANCELLED"}
        except Exception as error:
            _log.error("a part of %s failed in an unexpected way", self._arn, exc_info=True)
            ended = _reason(f"the workflow failed in an unexpected way: {error}")
        self._journal.conclude("over", partial(self._leave, ended))

    def _leave(self, ended: Json, stopping: Cancellation) -> Json:
        if ended["status"] == "CANCELLED":
            self._insist(lambda: self._executions.end_cancelled(self._id), stopping)
            for known in self._shop.instances.of(self._arn, self._id):
                try:
                    self._shop.instances.terminate(known.id, image_arn=self._arn)
                except (ProcessFailed, OSError) as error:
                    _log.warning("the instance %s stays until its image ends: %s", known.id, error)
        self._insist(lambda: self._executions.keep_result(self._id, ended), stopping)
        self._journal.wake(self._key)
        return {}


def _units(tests: Sequence[Entry]) -> list[list[Entry]]:
    """Test workflows that run together, in the order in which their groups first appear (7.3)."""
    units: list[list[Entry]] = []
    groups: dict[str, list[Entry]] = {}
    for entry in tests:
        group = entry.planned.parallel_group
        if group and group in groups:
            groups[group].append(entry)
            continue
        units.append([entry])
        if group:
            groups[group] = units[-1]
    return units


def _abort_first(ended: Sequence[Json]) -> list[Json]:
    """Among members that did not complete, those that failed by themselves say why, not those they cancelled."""
    failed = next((item for item in ended if item["status"] not in ("COMPLETED", "CANCELLED")), None)
    if failed is None:
        return list(ended)
    return [failed if item["status"] == "CANCELLED" else item for item in ended]


def _reason(text: str) -> Json:
    return {"status": "FAILED", "reason": text}


def _failed(stage: str, ended: Ended) -> Result:
    return Result("FAILED", stage, ended.reason, ended.context, ended.containers)
