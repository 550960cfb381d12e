"""The run of an image: its workflows in the order of the stages (spec/workflows.md 7).

    PENDING -> CREATING -> BUILDING -----> TESTING ------------------> DISTRIBUTING ---------> AVAILABLE
                           BUILD workflow  TEST workflows, unit after  DISTRIBUTION workflow,
                           or the parent   unit; a unit is one, or a   or the distribution of
                           as it is        group (parallel_tests.py)   the plan
    PENDING -> DISTRIBUTING -> AVAILABLE and PENDING -> AVAILABLE: runs without a build (disk_runs.py)
       any of them -> FAILED | CANCELLED (image_end.py)
                      a retry continues from there, in TESTING or DISTRIBUTING (retry.py)

The run of an image is one run of the engine. The kind of image (kind.py) defines the work inside a stage.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from imagesmith.build_logs.log_groups import enter_image_log
from imagesmith.builds.disk_runs import distribute_disk, import_disk, install_iso
from imagesmith.builds.entries import Entry, outputs_of_type
from imagesmith.builds.failures import StepFailed
from imagesmith.builds.image_end import ImageResult, end_image
from imagesmith.builds.journal import Journal, Json, child_of, image_of
from imagesmith.builds.parallel_tests import PartRun, run_group, time_limit, units
from imagesmith.builds.retry import current_key
from imagesmith.builds.run_base import RunBase
from imagesmith.builds.scan_condition import scan_on_demand
from imagesmith.builds.step_work import RunContext
from imagesmith.builds.work import Work
from imagesmith.builds.worker_context import WorkerContext
from imagesmith.processes import Cancellation, Cancelled
from imagesmith.recipes.plan import BuildPlan
from imagesmith.store.execution_state import WorkflowResult
from imagesmith.store.outage import StoreAway, is_outage
from imagesmith.store.runs import FenceLost
from imagesmith.values.names import iso_instant, parse_instant
from imagesmith.values.states import ExecutionStatus, ImageStatus

_log = logging.getLogger(__name__)

_DONE = WorkflowResult(status=ExecutionStatus.COMPLETED)


class ImageRuns:
    """The program of the engine: executes the run of an image, or of one of its parallel parts."""

    def __init__(self, worker_context: WorkerContext) -> None:
        self._worker_context = worker_context

    def run(self, key: str, journal: Journal) -> None:
        image_arn = image_of(key)
        worker_context = self._worker_context.under(image_arn, fence=journal.fence, pause=journal.pause)
        build = worker_context.records.build(image_arn)
        execution = child_of(key)
        # a run that was followed by a retry must not change the image
        if build is None or (not execution and key != current_key(build)):
            return
        plan, retry = BuildPlan.from_json(build.plan), build.outcome.retry
        run: PartRun | ImageRun = ImageRun(worker_context, plan, journal, retry)
        if execution:
            run = PartRun(worker_context=worker_context, plan=plan, journal=journal, retry=retry, id=execution)
        with self._sending(image_arn):
            try:
                run.run()
            except FenceLost:
                self._worker_context.release_local(plan, execution)
                raise

    @contextlib.contextmanager
    def _sending(self, image_arn: str) -> Iterator[None]:
        """Within the context, the logs of the run are put into the shared store."""
        sender = self._worker_context.sender
        if sender is None:
            yield
            return
        sender.begin(image_arn)
        try:
            yield
        finally:
            sender.end(image_arn)


class ImageRun(RunBase):
    """The run of one image from PENDING to its end."""

    def run(self) -> None:
        enter_image_log(self.plan, self.worker_context.settings.data_dir, self.worker_context.log)
        try:
            begun = self.journal.step("begin", self._begin)
            if begun["status"] == "over":
                return
            result = self._stages(begun)
        except Cancelled:
            result = ImageResult(ImageStatus.CANCELLED)
        except StepFailed as error:
            result = ImageResult(ImageStatus.FAILED, ImageStatus.CREATING, error.reason)
        except Exception as error:
            if is_outage(error):
                raise StoreAway(str(error)) from error
            _log.error("the run of %s failed in an unexpected way", self.arn, exc_info=True)
            result = ImageResult(ImageStatus.FAILED, "", f"the run failed in an unexpected way: {error}")
        self.journal.finalize("finish", partial(end_image, self, result))

    def _begin(self, _: Cancellation) -> Json:
        if self.retry.number:
            return self._begin_again()
        builds = self.plan.purpose == "build"
        goes = self.records.move(self.arn, ImageStatus.CREATING) if builds else self.records.is_running(self.arn, 0)
        if not goes:
            return {"status": "over"}
        return {"status": "ok", "at": iso_instant(self.worker_context.clock())}

    def _begin_again(self) -> Json:
        """Restore the state of the run before: its output image, and the outputs of its workflows."""
        if not self.records.is_running(self.arn, self.retry.number):
            return {"status": "over"}
        with self.worker_context.log(self.arn) as log:
            log.line("workflow", f"retry {self.retry.number} begins in {self.retry.phase}")
        entries = self.entries()
        built = {
            "outputs": outputs_of_type(self.messages, entries, "BUILD"),
            "digest": self.worker_context.outcomes.get(self.arn).digest,
        }
        tested = {"outputs": outputs_of_type(self.messages, entries, "TEST")}
        return {
            "status": "ok", "at": iso_instant(self.worker_context.clock()), "built": built, "tested": tested
        }  # fmt: skip

    def _stages(self, begun: Json) -> ImageResult:
        if self.plan.purpose == "distribute":
            return distribute_disk(self)
        if self.plan.purpose == "import":
            return import_disk(self)
        if self.plan.purpose == "install":
            return install_iso(self)
        entries = self.entries()
        builds = [entry for entry in entries if entry.planned.type == "BUILD"]
        tests = [entry for entry in entries if entry.planned.type == "TEST"]
        distributions = [entry for entry in entries if entry.planned.type == "DISTRIBUTION"]
        if self.retry.number:
            built = WorkflowResult.from_json({"status": ExecutionStatus.COMPLETED, **begun["built"]})
        else:
            built = self._build(builds[0], parse_instant(begun["at"])) if builds else self._adopt()
        if not built.ok:
            return ImageResult.failed(ImageStatus.BUILDING, built)
        outputs, digest = dict(built.outputs), built.digest
        if self.retry.phase == ImageStatus.DISTRIBUTING:
            tested = WorkflowResult.from_json({"status": ExecutionStatus.COMPLETED, **begun["tested"]})
        else:
            tested = self._test(tests, outputs, digest)
        if not tested.ok:
            return ImageResult.failed(ImageStatus.TESTING, tested)
        outputs |= tested.outputs
        done = self._distribute(distributions[0] if distributions else None, outputs, digest)
        if not done.ok:
            return ImageResult.failed(ImageStatus.DISTRIBUTING, done)
        return ImageResult(ImageStatus.AVAILABLE, containers=done.containers)

    # BUILD

    def _build(self, entry: Entry, started: datetime) -> WorkflowResult:
        run = self.workflow(entry, RunContext(entry.id, entry.position, self.key), self.kind.finish(started))
        return run.run(partial(self.enter, ImageStatus.BUILDING))

    def _adopt(self) -> WorkflowResult:
        """Make the parent the output image, without a BUILD workflow (spec/workflows.md 7.2)."""
        return self.stage("build", ImageStatus.BUILDING, lambda work: {"digest": self.kind.adopt_parent(work)})

    # TEST

    def _test(self, tests: Sequence[Entry], outputs: Mapping[str, Any], digest: str) -> WorkflowResult:
        scanned = self._scan_on_demand(digest)
        if not tests or not scanned.ok:
            return scanned
        if not self.plan.tests_enabled:
            self.journal.step("tests are off", partial(self._skip_all, tests))
            return _DONE
        begun = self.journal.step("tests begin", self._enter_tests)
        until = parse_instant(begun["at"]) + timedelta(minutes=self.plan.tests_timeout_minutes)
        found: dict[str, Any] = {}
        for unit in units(tests):
            results = self._run_unit(unit, {**outputs, **found}, digest, until)
            for entry, ended in zip(unit, results, strict=True):
                found |= ended.outputs
                if not ended.ok and not entry.planned.continue_on_failure:
                    return ended
        return WorkflowResult(status=ExecutionStatus.COMPLETED, outputs=found)

    def _run_unit(
        self, unit: Sequence[Entry], outputs: dict[str, Any], digest: str, until: datetime
    ) -> list[WorkflowResult]:
        if len(unit) > 1:
            return run_group(self, unit, outputs, digest, until)
        entry = unit[0]
        run_context = RunContext(
            id=entry.id, position=entry.position, key=self.key, workflow_outputs=outputs, digest=digest,
            until=until, limit=time_limit(self.plan),
        )  # fmt: skip
        return [self.workflow(entry, run_context).run()]

    def _scan_on_demand(self, digest: str) -> WorkflowResult:
        """Scan the AMI itself if the plan asks for it; the scan belongs to the test phase."""
        scan = self.plan.scan
        if scan is None or not scan.on_demand:
            return _DONE

        def judge(work: Work) -> Mapping[str, Any]:
            scan_on_demand(work, scan, digest)
            return {}

        return self.stage("scan", ImageStatus.TESTING, judge)

    def _enter_tests(self, _: Cancellation) -> Json:
        self.enter(ImageStatus.TESTING)
        return {"at": iso_instant(self.worker_context.clock())}

    def _skip_all(self, tests: Sequence[Entry], _: Cancellation) -> Json:
        for entry in tests:
            self.open(entry, ExecutionStatus.SKIPPED)
        return {}

    # DISTRIBUTION

    def _distribute(self, entry: Entry | None, outputs: Mapping[str, Any], digest: str) -> WorkflowResult:
        """Execute the plan's own distribution, without a DISTRIBUTION workflow and without a record
        (spec/workflows.md 7.2)."""
        if entry is not None:
            run_context = RunContext(
                id=entry.id, position=entry.position, key=self.key, workflow_outputs=outputs, digest=digest
            )
            return self.workflow(entry, run_context).run(partial(self.enter, ImageStatus.DISTRIBUTING))
        return self.stage(
            "distribute", ImageStatus.DISTRIBUTING, lambda work: {"containers": self.kind.distribute(work, digest)}
        )
