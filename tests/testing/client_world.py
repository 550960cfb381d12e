"""A server with an account for every client, each with the same builds behind it: what only an engine writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy.engine import Connection

from imagesmith.builds.executions import ExecutionRecords, execution_id, step_id
from imagesmith.inspection.scanning.advisories import Advisory
from imagesmith.inspection.scanning.findings import Finding, VulnerablePackage
from imagesmith.inspection.scanning.severities import Severity
from imagesmith.recipes.plan import PlannedWorkflow
from imagesmith.store import lifecycle, queries, stored_builds
from imagesmith.store.lifecycle import LifecycleExecution, LifecycleResource
from imagesmith.store.records import Record
from imagesmith.values.names import iso_instant
from imagesmith.values.states import ImageStatus, LifecycleOutcome, LifecycleStatus
from imagesmith.workflow_documents.grammar import parse_workflow
from testing.api import REGION, WORKFLOW, Api
from testing.lifecycle_support import add_ami, add_image, image_arn

DIGEST: Final = "sha256:" + "1" * 64
_PACKAGE: Final = VulnerablePackage("libssl3", "3.0.11-1", "amd64", "deb", "", "3.0.11-2")
_SEVERITIES: Final[tuple[Severity, ...]] = ("CRITICAL", "HIGH", "MEDIUM", "LOW")


@dataclass(frozen=True)
class Account:
    """An account that a client works in."""

    id: str
    access_key_id: str
    secret: str

    def key(self) -> dict[str, Any]:
        """Its entry of a key file."""
        return {"accessKeyId": self.access_key_id, "secretAccessKey": self.secret, "account": self.id}


def account_of(number: int) -> Account:
    return Account(f"{number:012}", f"AKIACLIENT{number:010}", "s" * 40)


def furnish(api: Api, account: Account) -> Mapping[str, str]:
    """Write what builds leave; returns the values that calls of clients begin with."""
    available, failed, running = (
        image_arn(name, account=account.id) for name in ("available", "failed", "running")
    )
    with api.database.write(f"{account.id}/{REGION}") as tx:
        ami = _images(tx, available, failed, running, created=api.clock())
        policy, cleaning = _lifecycle(tx, account, available, started=api.clock())
    packages = [{"name": f"p{number}", "version": "1"} for number in range(5)]
    api.inspections.put_inventory(available, packages, os_version="Debian 12")
    findings = [
        Finding(Advisory(f"CVE-2024-000{number}", severity, "test"), (_PACKAGE,)).to_json()
        for number, severity in enumerate(_SEVERITIES)
    ]
    api.inspections.put_findings(available, findings)
    execution = _executions(api, running)
    return {
        "none": f"arn:aws:imagebuilder:{REGION}:{account.id}", "available": available, "failed": failed,
        "running": running, "ami": ami, "cleaned": policy, "cleaning": cleaning, "execution": execution,
        "step": step_id(execution, "Ask"),
    }  # fmt: skip


def _images(tx: Connection, available: str, failed: str, running: str, *, created: datetime) -> str:
    """An AVAILABLE image, one whose distribution failed, one that is tested; returns the AMI of the first."""
    image = add_image(tx, available, created=created)
    ami = add_ami(tx, image, DIGEST, platform="Linux")
    add_image(tx, running, created=created, status=ImageStatus.TESTING)
    left = add_image(tx, failed, created=created, status=ImageStatus.FAILED)
    add_ami(tx, left, DIGEST, platform="Linux")
    _fail_distribution(tx, queries.get(tx, failed) or left)
    return ami.ami_id


def _fail_distribution(tx: Connection, image: Record) -> None:
    state = {"status": "FAILED", "reason": "no", "failureContext": {"imageStatus": "DISTRIBUTING"}}
    queries.replace(tx, replace(image, document={**image.document, "state": state}))
    stored_builds.change_outcome(
        tx, image.arn, lambda outcome: replace(outcome, digest=DIGEST, ended_in="DISTRIBUTING")
    )


def _lifecycle(tx: Connection, account: Account, image: str, *, started: datetime) -> tuple[str, str]:
    """An execution of a policy with three resources; returns the ARN of the policy and the id."""
    policy = f"arn:aws:imagebuilder:{REGION}:{account.id}:lifecycle-policy/cleaner"
    execution = LifecycleExecution(
        id=f"lce-{account.id[-8:]}-0000-0000-0000-000000000000", account=account.id, region=REGION, subject=policy,
        status=LifecycleStatus.IN_PROGRESS, started=started, document={"policyArn": policy},
    )  # fmt: skip
    lifecycle.put_execution(tx, execution)
    for number in range(3):
        lifecycle.put_resource(
            tx,
            LifecycleResource(
                execution_id=execution.id, resource_id=image.replace("1.0.0", f"1.0.{number}"), position=number,
                status=LifecycleOutcome.SUCCESS,
                document={
                    "action": "DELETE", "account": account.id, "region": REGION, "startTime": iso_instant(started),
                    "endTime": iso_instant(started),
                },
            ),
        )  # fmt: skip
    return policy, execution.id


def _executions(api: Api, image: str) -> str:
    """Three runs of a workflow, the first of which waits for an answer; returns its id."""
    document = parse_workflow(WORKFLOW, "TEST").document
    assert document is not None
    records = ExecutionRecords(api.database, image, api.clock)
    arn = image.replace(":image/running", ":workflow/test/wait")
    ids = [execution_id(image, f"test-{number}") for number in range(3)]
    for number, id in enumerate(ids):
        records.open(PlannedWorkflow(arn, "TEST", WORKFLOW), document, id=id, position=number)
    for id in ids[:2]:
        records.begin_step(step_id(id, "Ask"), inputs={}, seconds=3600, waiting=image)
    return ids[0]
