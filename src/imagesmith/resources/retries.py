"""RetryImage: an image goes back to the phase in which it failed or was cancelled (spec/workflows.md 11.2).

One transaction moves the image and marks the records of what is repeated; the engine hears of it after the commit,
and the sweep at start-up finds what it did not hear of.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from imagesmith.recipes.plan import BuildPlan
from imagesmith.resources.call import Call
from imagesmith.resources.errors import ApiError, invalid_request
from imagesmith.resources.images import KIND as IMAGE
from imagesmith.resources.images import follow_pipeline
from imagesmith.resources.references import find
from imagesmith.store import amis, executions, queries
from imagesmith.store.records import Build, Record
from imagesmith.workflows.executions import execution_id
from imagesmith.workflows.journal import retry_key
from imagesmith.workflows.retry import REPEATED, Phase, Retry, phase_to_repeat

Request = Mapping[str, Any]

_ARN: Final = "imageBuildVersionArn"
_RETRYABLE: Final = frozenset({"FAILED", "CANCELLED"})


def retry(call: Call, request: Request) -> dict[str, Any]:
    """Go back to the phase that did not succeed, under the same ARN; only machine images can."""
    image = find(call, request[_ARN], path=_ARN, kind=IMAGE)
    if image.document["type"] != "AMI":
        raise invalid_request(f"The image {image.arn} is a container image; only machine images can be retried.")
    if image.status not in _RETRYABLE:
        raise invalid_request(
            f"The image {image.arn} is {image.status}; only a failed or cancelled one is retried."
        )
    build = queries.get_build(call.tx, image.arn)
    if build is None:
        raise invalid_request(f"The image {image.arn} was not built here, so there is no phase to repeat.")
    phase = _phase(call, image, build)
    again = Retry.of(build.outcome).next(phase)
    queries.reopen_build(call.tx, image.arn, {"retry": vars(again), "attempts": {}})
    executions.mark_retried(call.tx, image.arn, REPEATED[phase])
    _move(call, image, phase)
    if call.builds is not None:
        call.effects.append(partial(call.builds.start, retry_key(image.arn, again.number)))
    return {_ARN: image.arn}


def _phase(call: Call, image: Record, build: Build) -> Phase:
    """Where the image goes on. Raises ApiError when it has nothing to go on from."""
    plan = BuildPlan.from_json(build.plan)
    place = next((number for number, item in enumerate(plan.workflows) if item.type == "BUILD"), None)
    run = None if place is None else executions.get_execution(call.tx, execution_id(image.arn, f"build-{place}"))
    built = run is not None and run.status == "COMPLETED"
    failed_in = image.document["state"].get("failureContext", {}).get("imageStatus", "")
    ended_in = str(build.outcome.get("ended_in", failed_in))
    phase = phase_to_repeat(plan, ended_in, built=built)
    if phase is None or "digest" not in build.outcome:
        raise _no_output(image, f"it is {image.status} since its build, which did not get as far as an output AMI")
    if run is not None and "_outputs" not in run.document:
        raise _no_output(image, "it was built by a version that did not keep what its workflows put out")
    own = amis.ami_id_for(plan.account, plan.region, "", source=image.arn)
    if amis.get_ami(call.tx, own) is None:
        raise _no_output(image, f"its output AMI {own} was taken out of the catalog")
    return phase


def _no_output(image: Record, why: str) -> ApiError:
    return invalid_request(f"The image {image.arn} cannot be retried: {why}. Build it anew.")


def _move(call: Call, image: Record, phase: Phase) -> None:
    """Enter the phase, without what is told of the failure."""
    document = {**image.document, "state": {"status": phase}}
    if phase == "TESTING" and "scanState" in document:
        document["scanState"] = {"status": "PENDING"}
    queries.replace(call.tx, replace(image, document=document, status=phase))
    follow_pipeline(call, image, phase)
