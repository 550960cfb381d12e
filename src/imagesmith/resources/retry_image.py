"""RetryImage: returns an image to the phase in which it failed or was cancelled (spec/workflows.md 11.2).

One transaction moves the image and marks the records of the repeated steps; the engine is notified after the
commit, and the next start finds images whose notification was lost.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Final

from imagesmith.builds.executions import execution_id
from imagesmith.builds.image_states import enter_state
from imagesmith.builds.journal import retry_key
from imagesmith.builds.retry import REPEATED, phase_to_repeat
from imagesmith.recipes.plan import BuildPlan
from imagesmith.resources.call import Call, EffectKind
from imagesmith.resources.errors import ApiError, invalid_request
from imagesmith.resources.images import KIND as IMAGE
from imagesmith.resources.resolution import find
from imagesmith.resources.resolved_runs import refuse_revoked
from imagesmith.store import amis, executions, stored_builds
from imagesmith.store.records import Build, Record
from imagesmith.values.api import ApiRequest, ApiResponse
from imagesmith.values.states import UNSUCCESSFUL_IMAGE, ExecutionStatus, ImageStatus, ScanStatus

_ARN: Final = "imageBuildVersionArn"


def retry(call: Call, request: ApiRequest) -> ApiResponse:
    """Repeat the phase that did not succeed, under the same ARN; for container images as well, since their build
    results are kept like an AMI."""
    image = find(call, request[_ARN], path=_ARN, kind=IMAGE)
    if image.status not in UNSUCCESSFUL_IMAGE:
        raise invalid_request(
            f"The image {image.arn} is {image.status}; only a failed or cancelled one is retried."
        )
    refuse_revoked(call, image)
    build = stored_builds.get_build(call.tx, image.arn)
    if build is None:
        raise invalid_request(f"The image {image.arn} was not built here, so there is no phase to repeat.")
    phase = _phase(call, image, build)
    again = build.outcome.retry.next(phase)
    stored_builds.reopen_build(call.tx, image.arn, again)
    executions.mark_retried(call.tx, image.arn, REPEATED[phase])
    _move(call, image, phase)
    if call.builds is not None:
        key = retry_key(image.arn, again.number)
        call.afterwards(EffectKind.START, key, partial(call.builds.start, key))
    return {_ARN: image.arn}


def _phase(call: Call, image: Record, build: Build) -> ImageStatus:
    """The phase that the image repeats. Raises ApiError when no earlier result exists to continue from."""
    plan = BuildPlan.from_json(build.plan)
    index = next((number for number, item in enumerate(plan.workflows) if item.type == "BUILD"), None)
    run = None if index is None else executions.get_execution(call.tx, execution_id(image.arn, f"build-{index}"))
    built = run is not None and run.status == ExecutionStatus.COMPLETED
    failed_in = image.document["state"].get("failureContext", {}).get("imageStatus", "")
    ended_in = build.outcome.ended_in or failed_in
    phase = phase_to_repeat(plan, ended_in, built=built)
    if phase is None or not build.outcome.digest:
        why = f"it became {image.status} before its build had an output {plan.image_kind.output}"
        raise _no_output(image, why)
    if run is not None and run.state.outputs is None:
        raise _no_output(image, "it was built by a version that did not keep the outputs of its workflows")
    if not plan.image_kind.is_disk:
        return phase
    own = amis.ami_id_for(plan.account, plan.region, "", source=image.arn)
    if amis.get_ami(call.tx, own) is None:
        raise _no_output(image, f"its output AMI {own} was removed from the catalog")
    return phase


def _no_output(image: Record, why: str) -> ApiError:
    return invalid_request(f"The image {image.arn} cannot be retried: {why}. Build it again.")


def _move(call: Call, image: Record, phase: ImageStatus) -> None:
    """Enter the phase and remove the record of the failure."""
    document = dict(image.document)
    if phase == ImageStatus.TESTING and "scanState" in document:
        document["scanState"] = {"status": ScanStatus.PENDING}
    enter_state(call.tx, replace(image, document=document), {"status": phase}, moment=call.now)
