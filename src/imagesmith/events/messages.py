"""Events in EventBridge's form (spec/api.md 7.1). Pure: store.events stores them.

    {"version": "0", "id": "...", "source": "aws.imagebuilder", "detail-type": "...", "account": "...",
     "region": "...", "time": "2026-11-23T10:04:12Z", "resources": ["arn:..."], "detail": {...}}

The id is derived from the rest, so that the same event, sent twice, is one event.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from imagesmith.store.events import Event
from imagesmith.store.executions import StepExecution
from imagesmith.store.records import Record
from imagesmith.values.names import canonical_json, iso_instant

IMAGE_STATE_CHANGE: Final = "EC2 Image Builder Image State Change"
PIPELINE_DISABLED: Final = "EC2 Image Builder Image Pipeline Automatically Disabled"
CVE_DETECTED: Final = "EC2 Image Builder CVE Detected"
STEP_WAITING: Final = "EC2 Image Builder Workflow Step Waiting"
_MOST_IDS: Final = 100
_IDS: Final = uuid.UUID("6f6b6c0e-5d5a-5a58-9b7e-1f0c5f6a7d11")


def pipeline_disabled(pipeline: Record, failures: int, *, moment: datetime) -> Event:
    """A pipeline became DISABLED after `failures` failed runs in a row (spec/pipelines.md 6)."""
    # a string, as AWS sends it
    return _event(pipeline, PIPELINE_DISABLED, [pipeline.arn], {"consecutive-failures": str(failures)}, moment)


def image_state_changed(image: Record, before: str, state: Mapping[str, Any], *, moment: datetime) -> Event:
    """An image went from the status `before` to a state, which has a reason after a failure."""
    after = {name: state[name] for name in ("status", "reason") if state.get(name)}
    detail = {"previous-state": {"status": before}, "state": after}
    return _event(image, IMAGE_STATE_CHANGE, [image.arn], detail, moment)


def step_waiting(step: StepExecution, workflow_arn: str, *, moment: datetime) -> Event:
    """A step waits for an action (spec/workflows.md 8.2)."""
    detail = {
        "workflow-execution-id": step.execution_id,
        "workflow-step-execution-id": step.id,
        "workflow-step-name": step.state.name,
    }
    return _event(step, STEP_WAITING, [step.image_arn, workflow_arn], detail, moment)


def cve_detected(
    image: Record, counts: Mapping[str, int], vulnerabilities: Sequence[str], *, moment: datetime
) -> Event:
    """Vulnerabilities of an image became known after its build (spec/api.md 7.1).

    `counts`: severity -> number. AWS's `resource-id` is the instance that was scanned; here no instance runs, so it
    is the image. `vulnerability-ids` is an addition: the first of them, worst first.
    """
    detail = {
        "resource-id": image.arn,
        "finding-severity-counts": {
            "all": sum(counts.values()),
            **{label: counts.get(label.upper(), 0) for label in ("critical", "high", "medium")},
        },
        "vulnerability-ids": list(vulnerabilities[:_MOST_IDS]),
    }
    return _event(image, CVE_DETECTED, [image.arn, *([image.source] if image.source else [])], detail, moment)


def envelope(event: Event) -> Mapping[str, Any]:
    """The JSON for a receiver."""
    return {
        "version": "0",
        "id": event.id,
        "detail-type": event.detail_type,
        "source": "aws.imagebuilder",
        "account": event.account,
        "time": event.time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "region": event.region,
        "resources": list(event.resources),
        "detail": dict(event.detail),
    }


def _event(
    about: Record | StepExecution,
    detail_type: str,
    resources: Sequence[str],
    detail: Mapping[str, Any],
    moment: datetime,
) -> Event:
    identity = canonical_json([about.account, about.region, detail_type, resources, detail, iso_instant(moment)])
    return Event(
        id=str(uuid.uuid5(_IDS, identity)),
        account=about.account,
        region=about.region,
        time=moment,
        detail_type=detail_type,
        resources=tuple(resources),
        detail=detail,
    )
