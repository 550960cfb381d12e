"""The end of an image: removes the leftovers of its run and writes its final state."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imagesmith.artifacts.storage import StorageError
from imagesmith.builds.journal import Json
from imagesmith.builds.records import ImageFailure
from imagesmith.builds.run_base import RunBase
from imagesmith.processes import Cancellation
from imagesmith.store.execution_state import WorkflowResult
from imagesmith.values.states import ImageStatus

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageResult:
    """The end of an image before it is written."""

    status: ImageStatus
    stage: str = ""
    reason: str = ""
    context: Mapping[str, Any] | None = None
    containers: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def failed(cls, stage: ImageStatus, ended: WorkflowResult) -> ImageResult:
        """The end of an image whose stage did not complete."""
        return cls(
            status=ImageStatus.FAILED, stage=stage, reason=ended.reason, context=ended.context,
            containers=ended.containers,
        )  # fmt: skip


def end_image(run: RunBase, result: ImageResult, stopping: Cancellation) -> Json:
    """Remove the leftovers of a build and write the final state, however long that takes."""
    run.worker_context.reserve.wait_for_disk_space(stopping)
    if not run.records.is_running(run.arn, run.retry.number):
        return {}
    cancelled = result.status == ImageStatus.CANCELLED or run.records.is_cancelled(run.arn)
    failed = result.status == ImageStatus.FAILED and not cancelled
    if cancelled:
        run.executions.end_cancelled()
    _clear(run, keep=run.plan.keep_failed_instance if failed else run.plan.keep_completed_instance)
    # a cancel that came too late was accepted all the same, and clients wait for CANCELLED
    _write(run, result, ImageStatus.CANCELLED if cancelled else result.status)
    return {}


def _clear(run: RunBase, *, keep: bool) -> None:
    try:
        kept = run.worker_context.clear(run.plan, keep=keep)
    except (StorageError, OSError) as error:
        _log.warning("the remains of %s are removed at the next start: %s", run.arn, error)
        return
    with contextlib.suppress(OSError), run.worker_context.log(run.arn) as log:
        for instance in kept:
            for line in run.worker_context.how_to_enter(instance):
                log.line("end", line)


def _write(run: RunBase, result: ImageResult, status: ImageStatus) -> None:
    failure = None
    if status == ImageStatus.FAILED:
        stage = {"imageStatus": result.stage} if result.stage else {}
        failure = ImageFailure(result.reason, {**stage, **(result.context or {})})
    built = result.status == ImageStatus.AVAILABLE
    outputs = run.kind.outputs(run.worker_context, run.plan, result.containers, built=built)
    run.records.finish(run.arn, status, failure=failure, outputs=outputs, number=run.retry.number)
    with contextlib.suppress(OSError), run.worker_context.log(run.arn) as log:
        log.line("end", status if failure is None else f"{status}: {failure.reason}")
