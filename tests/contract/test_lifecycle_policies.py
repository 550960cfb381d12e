"""Lifecycle policies over HTTP, on both databases."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from imagesmith.resources.service import Service
from imagesmith.schedule.lifecycle_clock import LifecycleClock
from imagesmith.settings import Quotas, Role, Settings
from imagesmith.store import lifecycle
from imagesmith.store.lifecycle import LifecycleExecution
from imagesmith.values.states import LifecycleStatus
from testing.api import ACCOUNT, REGION, Api, MakeApi
from testing.lifecycle_support import add_image, image_arn
from testing.loaded import managed_content
from testing.refusals import refused

ROLE = f"arn:aws:iam::{ACCOUNT}:role/lifecycle"
RULE: dict[str, Any] = {
    "action": {"type": "DELETE", "includeResources": {"amis": True, "snapshots": True}},
    "filter": {"type": "AGE", "value": 6, "unit": "MONTHS", "retainAtLeast": 3},
    "exclusionRules": {
        "tagMap": {"keep": "yes"},
        "amis": {
            "isPublic": True, "regions": ["us-east-1"], "sharedAccounts": ["210987654321"],
            "lastLaunched": {"value": 30, "unit": "DAYS"}, "tagMap": {"golden": "1"},
        },
    },
}  # fmt: skip
REQUEST: dict[str, Any] = {
    "name": "Old Images", "executionRole": ROLE, "resourceType": "AMI_IMAGE", "policyDetails": [RULE],
    "resourceSelection": {"recipes": [{"name": "web", "semanticVersion": "1.x.x"}]},
}  # fmt: skip


def create(api: Api, **members: Any) -> str:
    return str(api.client.create_lifecycle_policy(**{**REQUEST, **members})["lifecyclePolicyArn"])


def get(api: Api, arn: str) -> dict[str, Any]:
    return dict(api.client.get_lifecycle_policy(lifecyclePolicyArn=arn)["lifecyclePolicy"])


def add_execution(api: Api, subject: str, number: int, status: LifecycleStatus = LifecycleStatus.SUCCESS) -> str:
    """An execution of a policy that the engine has ended, or not."""
    execution = LifecycleExecution(
        id=f"lce-00000000-0000-0000-0000-{number:012}", account=ACCOUNT, region=REGION, subject=subject,
        status=status, started=api.clock(), ended=api.clock() if status == "SUCCESS" else None,
        document={"policyArn": subject},
    )  # fmt: skip
    api.database.change("test", lambda tx: lifecycle.put_execution(tx, execution))
    return execution.id


def test_a_policy_reads_back_as_sent(api: Api) -> None:
    """Every member, the default status, dates as instants, and tags."""
    arn = create(api, description="d", tags={"team": "a"})
    assert arn == api.arn("lifecycle-policy", "old-images")
    policy = get(api, arn)
    created, updated = policy.pop("dateCreated"), policy.pop("dateUpdated")
    assert created == updated and created.replace(tzinfo=UTC) - api.clock.now < timedelta(seconds=5)
    assert policy == {**REQUEST, "arn": arn, "description": "d", "status": "ENABLED", "tags": {"team": "a"}}
    api.client.tag_resource(resourceArn=arn, tags={"b": "2"})
    assert get(api, arn)["tags"] == {"team": "a", "b": "2"}


def test_a_repeated_create_has_one_effect(api: Api) -> None:
    """The same token is the same policy; other members under it, or the same name again, are refused."""
    arn = create(api, clientToken="t")
    assert create(api, clientToken="t") == arn
    with refused("IdempotentParameterMismatchException"):
        create(api, clientToken="t", name="other")
    with refused("ResourceAlreadyExistsException") as refusal:
        create(api, name="old images")
    assert refusal.message == f"The following resource 'LifecyclePolicy' already exists: '{arn}'."


def test_an_update_replaces_everything(api: Api) -> None:
    """What is left out is gone, the status returns to ENABLED; name, dates of creation and tags stay."""
    arn = create(api, description="d", status="DISABLED", tags={"a": "1"})
    before = get(api, arn)
    rule = {"action": {"type": "DISABLE"}, "filter": {"type": "AGE", "value": 2, "unit": "YEARS"}}
    members = {
        "executionRole": "other", "resourceType": "AMI_IMAGE", "policyDetails": [rule],
        "resourceSelection": {"tagMap": {"old": "yes"}},
    }  # fmt: skip
    api.client.update_lifecycle_policy(lifecyclePolicyArn=arn, **members)
    after = get(api, arn)
    assert after.pop("dateUpdated") > before["dateUpdated"]
    assert after == {
        **members, "arn": arn, "name": "Old Images", "status": "ENABLED", "dateCreated": before["dateCreated"],
        "tags": {"a": "1"},
    }  # fmt: skip


def test_the_type_of_a_policy_stays(api: Api) -> None:
    """Another resourceType is refused, and nothing changes."""
    arn = create(api)
    members = {name: REQUEST[name] for name in ("executionRole", "resourceSelection")}
    rule = {"action": {"type": "DELETE"}, "filter": {"type": "COUNT", "value": 1}}
    with refused("InvalidParameterCombinationException"):
        api.client.update_lifecycle_policy(
            lifecyclePolicyArn=arn, resourceType="CONTAINER_IMAGE", policyDetails=[rule], **members
        )
    assert get(api, arn)["resourceType"] == "AMI_IMAGE"


def with_rule(**changes: Any) -> dict[str, Any]:
    return {"policyDetails": [{**RULE, **changes}]}


@pytest.mark.parametrize(
    ("members", "path"),
    [
        ({"policyDetails": [RULE, RULE]}, "policyDetails[1].action.type"),
        (with_rule(filter={"type": "AGE", "value": 6}), "policyDetails[0].filter.unit"),
        (
            with_rule(action={"type": "DISABLE"}, filter={"type": "COUNT", "value": 6}),
            "filter.type",
        ),
        (with_rule(action={"type": "DELETE", "includeResources": {"snapshots": True}}), "includeResources"),
        (with_rule(action={"type": "DELETE", "includeResources": {"containers": True}}), "includeResources"),
        (with_rule(action={"type": "DISABLE", "includeResources": {"snapshots": True, "amis": True}}), "include"),
        (with_rule(action={"type": "DEPRECATE", "includeResources": {"containers": True}}), "includeResources"),
        ({"resourceType": "CONTAINER_IMAGE", **with_rule(action={"type": "DISABLE"})}, "action.type"),
        ({"resourceType": "CONTAINER_IMAGE"}, "includeResources"),
        ({"resourceSelection": {}}, "resourceSelection"),
        ({"resourceSelection": {"tagMap": {"a": "1"}, **REQUEST["resourceSelection"]}}, "resourceSelection"),
    ],
)
def test_members_that_exclude_each_other(api: Api, members: dict[str, Any], path: str) -> None:
    """InvalidParameterCombination with the path, for create and for update, also as a dry run."""
    arn = create(api, name="kept")
    for more in ({}, {"dryRun": True}):
        with refused("InvalidParameterCombinationException") as refusal:
            create(api, **members, **more)
        assert path in refusal.message
    changed = {name: value for name, value in {**REQUEST, **members}.items() if name != "name"}
    with refused("InvalidParameterCombinationException"):
        api.client.update_lifecycle_policy(lifecyclePolicyArn=arn, **changed)


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"resourceSelection": {"recipes": [{"name": "web", "semanticVersion": "x.1.x"}]}}, "InvalidVersionNumber"),
        ({"resourceType": "DISK"}, "InvalidParameterValue"),
        (with_rule(filter={"type": "AGE", "value": 1001, "unit": "DAYS"}), "InvalidParameterValue"),
        ({"name": "a"}, "InvalidParameterValue"),
    ],
)
def test_bad_members(api: Api, members: dict[str, Any], code: str) -> None:
    """Each with its own code."""
    with refused(f"{code}Exception"):
        create(api, **members)


def test_a_retained_number_with_another_action_is_taken(api: Api) -> None:
    """As the service takes it."""
    create(api, **with_rule(action={"type": "DISABLE"}))


def test_a_dry_run_ends_before_the_write(api: Api) -> None:
    """Neither a policy nor a token is left."""
    with refused("DryRunOperationException"):
        create(api, dryRun=True, clientToken="t")
    create(api, clientToken="t")


def test_policies_have_a_quota(make_api: MakeApi) -> None:
    """ServiceQuotaExceeded names it."""
    api = make_api(quotas=Quotas(lifecycle_policies=1))
    create(api)
    with refused("ServiceQuotaExceededException") as refusal:
        create(api, name="second")
    assert refusal.message == "You have reached the limit of 1 lifecycle policies."


def test_a_role_must_exist_and_may_be_passed(make_api: MakeApi) -> None:
    """As for pipelines."""
    api = make_api(roles={"lifecycle": Role(passed_by=("nobody",))})
    with refused("ForbiddenException"):
        create(api)
    with refused("InvalidParameterValueException"):
        create(api, executionRole="missing")


def test_lists_have_pages_and_filters(api: Api) -> None:
    """Newest first, through all pages; name with wildcard, resourceType, status; nothing of other accounts."""
    rule = {"action": {"type": "DELETE"}, "filter": {"type": "COUNT", "value": 1}}
    for number in range(5):
        create(api, name=f"policy-{number}", status="DISABLED" if number == 3 else "ENABLED")
    create(api, name="containers", resourceType="CONTAINER_IMAGE", policyDetails=[rule])
    pages = api.client.get_paginator("list_lifecycle_policies").paginate(PaginationConfig={"PageSize": 2})
    listed = [item["name"] for page in pages for item in page["lifecyclePolicySummaryList"]]
    assert listed == ["containers", *(f"policy-{number}" for number in (4, 3, 2, 1, 0))]

    def names(**wanted: str) -> list[str]:
        filters = [{"name": name, "values": [value]} for name, value in wanted.items()]
        found = api.client.list_lifecycle_policies(filters=filters)["lifecyclePolicySummaryList"]
        return [item["name"] for item in found]

    assert names(status="DISABLED") == ["policy-3"] and names(resourceType="CONTAINER_IMAGE") == ["containers"]
    assert len(names(name="policy*")) == 5 and names(name="policy-1", status="ENABLED") == ["policy-1"]
    with refused("InvalidParameterValueException"):
        names(owner="x")
    with refused("InvalidPaginationTokenException"):
        api.client.list_lifecycle_policies(nextToken="x")


def test_a_deletion_cancels_and_leaves_the_executions(api: Api) -> None:
    """The policy and its next run are gone; a running execution is told to stop and stays readable."""
    arn = create(api)
    running = add_execution(api, arn, 1, LifecycleStatus.IN_PROGRESS)
    assert api.client.delete_lifecycle_policy(lifecyclePolicyArn=arn)["lifecyclePolicyArn"] == arn
    found = api.client.get_lifecycle_execution(lifecycleExecutionId=running)["lifecycleExecution"]
    assert found["state"] == {"status": "CANCELLING"} and api.builds.woken == [running]
    for action in (api.client.get_lifecycle_policy, api.client.delete_lifecycle_policy):
        with refused("ResourceNotFoundException") as refusal:
            action(lifecyclePolicyArn=arn)
        assert refusal.message == f"The following required resource 'LifecyclePolicy' cannot be found: '{arn}'."
    assert api.database.query(lambda tx: lifecycle.due_policies(tx, datetime(2100, 1, 1, tzinfo=UTC), 9)) == []


def test_executions_are_listed_newest_first(api: Api) -> None:
    """Through all pages, for the policy that they belong to; an unknown policy is not found."""
    arn, other = create(api), create(api, name="other")
    ids = [add_execution(api, arn, number) for number in range(5)]
    add_execution(api, other, 9)
    paginator = api.client.get_paginator("list_lifecycle_executions")
    pages = paginator.paginate(resourceArn=arn, PaginationConfig={"PageSize": 2})
    listed = [item for page in pages for item in page["lifecycleExecutions"]]
    assert [item["lifecycleExecutionId"] for item in listed] == ids[::-1]
    assert {item["lifecyclePolicyArn"] for item in listed} == {arn}
    assert listed[0]["state"] == {"status": "SUCCESS"} and listed[0]["endTime"] > listed[0]["startTime"]
    assert listed[0]["resourcesImpactedSummary"] == {"hasImpactedResources": False}
    with refused("ResourceNotFoundException"):
        api.client.list_lifecycle_executions(resourceArn=api.arn("lifecycle-policy", "none"))
    for path in ("image/web/1.0.0", "component/web/1.0.0/1"):
        kind, _, rest = path.partition("/")
        with refused("InvalidParameterValueException"):
            api.client.list_lifecycle_executions(resourceArn=api.arn(kind, rest))


def test_an_execution_is_cancelled_once(api: Api) -> None:
    """A second cancel while it stops succeeds; an ended one is refused, an unknown one is not found."""
    arn = create(api)
    running, over = add_execution(api, arn, 1, LifecycleStatus.IN_PROGRESS), add_execution(api, arn, 2)
    cancel = api.client.cancel_lifecycle_execution
    assert [cancel(lifecycleExecutionId=running)["lifecycleExecutionId"] for _ in range(2)] == [running] * 2
    with refused("InvalidRequestException") as refusal:
        cancel(lifecycleExecutionId=over)
    assert refusal.message == f"The lifecycle execution {over} has ended; it is SUCCESS."
    missing = "lce-00000000-0000-0000-0000-00000000ffff"
    calls: list[Callable[..., Any]] = [
        cancel, api.client.get_lifecycle_execution, api.client.list_lifecycle_execution_resources
    ]  # fmt: skip
    for call in calls:
        with refused("ResourceNotFoundException") as refusal:
            call(lifecycleExecutionId=missing)
        assert "'LifecycleExecution'" in refusal.message


@pytest.fixture
def tick(api: Api, tmp_path: Path) -> Callable[[], None]:
    """One round of the clock of another server on the same store."""
    settings = Settings(data_dir=tmp_path / "data", account=ACCOUNT, region=REGION)
    service = Service(api.database, settings, clock=api.clock, managed=managed_content(), builds=api.builds)
    return LifecycleClock(service, api.database, clock=api.clock).tick


def test_an_enabled_policy_runs_once_a_day(api: Api, tick: Callable[[], None]) -> None:
    """At the time of the settings; never beside its last execution; dateLastRun moves."""
    arn = create(api)
    tick()
    assert api.builds.started == []
    api.clock.now = datetime(2026, 11, 24, 3, 0, 1, tzinfo=UTC)
    for _ in range(2):
        tick()
    (started,) = api.builds.started
    found = api.client.get_lifecycle_execution(lifecycleExecutionId=started)["lifecycleExecution"]
    assert (found["state"]["status"], found["lifecyclePolicyArn"]) == ("IN_PROGRESS", arn)
    assert get(api, arn)["dateLastRun"].replace(tzinfo=UTC) - api.clock.now < timedelta(seconds=5)
    api.clock.advance(days=1)
    tick()
    assert api.builds.started == [started]  # it has not ended
    api.database.change("test", lambda tx: lifecycle.set_status(tx, started, LifecycleStatus.SUCCESS))
    api.clock.advance(days=1)
    tick()
    assert len(api.builds.started) == 2 and len(set(api.builds.started)) == 2


def test_a_disabled_policy_does_not_run(api: Api, tick: Callable[[], None]) -> None:
    """Disabling cancels a running execution, and enabling arms the next day."""
    arn = create(api)
    running = add_execution(api, arn, 1, LifecycleStatus.IN_PROGRESS)
    members = {name: value for name, value in REQUEST.items() if name != "name"}
    api.client.update_lifecycle_policy(lifecyclePolicyArn=arn, status="DISABLED", **members)
    assert api.builds.woken == [running]
    api.clock.advance(days=3)
    tick()
    assert api.builds.started == []
    api.client.update_lifecycle_policy(lifecyclePolicyArn=arn, **members)
    api.database.change("test", lambda tx: lifecycle.set_status(tx, running, LifecycleStatus.CANCELLED))
    api.clock.advance(days=1)
    tick()
    assert len(api.builds.started) == 1


def add_built(api: Api, build: int = 1, *, status: str = "AVAILABLE", type: str = "AMI", slug: str = "web") -> str:
    arn = image_arn(slug, build=build)
    now = api.clock()
    api.database.change("test", lambda tx: add_image(tx, arn, created=now, status=status, type=type))
    return arn


def update(api: Api, arn: str, status: str, **members: Any) -> dict[str, Any]:
    answer = api.client.start_resource_state_update(resourceArn=arn, state={"status": status}, **members)
    return dict(answer)


def test_a_state_changes_at_once(api: Api) -> None:
    """Without outputs and without a later time there is no execution; a restore clears the time."""
    arn = add_built(api)
    for status in ("DEPRECATED", "DISABLED", "AVAILABLE"):
        answer = update(api, arn, status)
        assert answer["resourceArn"] == arn and "lifecycleExecutionId" not in answer
        image = api.client.get_image(imageBuildVersionArn=arn)["image"]
        assert image["state"] == {"status": status}
        assert ("deprecationTime" in image) == (status != "AVAILABLE")
    assert api.builds.started == []


def test_an_update_of_outputs_is_an_execution(api: Api) -> None:
    """Its id is returned, listed under the image, and a second one is refused meanwhile."""
    arn = add_built(api)
    members = {"executionRole": ROLE, "includeResources": {"amis": True}, "clientToken": "t"}
    first = update(api, arn, "DELETED", **members)
    assert update(api, arn, "DELETED", **members)["lifecycleExecutionId"] == first["lifecycleExecutionId"]
    assert api.builds.started == [first["lifecycleExecutionId"]]
    with refused("ResourceInUseException"):
        update(api, arn, "DELETED", **{**members, "clientToken": "u"})
    (found,) = api.client.list_lifecycle_executions(resourceArn=arn)["lifecycleExecutions"]
    assert found["lifecycleExecutionId"] == first["lifecycleExecutionId"] and "lifecyclePolicyArn" not in found
    api.client.delete_image(imageBuildVersionArn=arn)
    found = api.client.get_lifecycle_execution(lifecycleExecutionId=first["lifecycleExecutionId"])
    assert found["lifecycleExecution"]["state"]["status"] == "CANCELLING"


def test_a_later_deprecation_is_an_execution(api: Api) -> None:
    """updateAt alone makes one."""
    later = api.clock.now + timedelta(days=3)
    assert "lifecycleExecutionId" in update(api, add_built(api), "DEPRECATED", updateAt=later)


INCLUDED: dict[str, Any] = {"executionRole": ROLE, "includeResources": {"amis": True}}


@pytest.mark.parametrize(
    ("type", "status", "members"),
    [
        ("AMI", "DELETED", {}),
        ("AMI", "DISABLED", {"executionRole": ROLE}),
        ("AMI", "DISABLED", {"includeResources": {"amis": True}}),
        ("AMI", "DISABLED", {"updateAt": datetime(2030, 1, 1, tzinfo=UTC)}),
        ("AMI", "DEPRECATED", {"updateAt": datetime(2020, 1, 1, tzinfo=UTC)}),
        ("AMI", "DEPRECATED", {**INCLUDED, "includeResources": {"amis": True, "snapshots": True}}),
        ("AMI", "DELETED", {**INCLUDED, "includeResources": {"containers": True}}),
        ("AMI", "DELETED", {**INCLUDED, "includeResources": {"snapshots": True}}),
        ("DOCKER", "DEPRECATED", {}),
        ("DOCKER", "DELETED", INCLUDED),
    ],
)
def test_updates_that_make_no_sense(api: Api, type: str, status: str, members: dict[str, Any]) -> None:
    """InvalidRequest, and the image stays."""
    arn = add_built(api, type=type)
    with refused("InvalidRequestException"):
        update(api, arn, status, **members)
    assert api.client.get_image(imageBuildVersionArn=arn)["image"]["state"]["status"] == "AVAILABLE"


@pytest.mark.parametrize(
    ("before", "after", "code"),
    [
        ("FAILED", "DEPRECATED", "InvalidRequestException"), ("CANCELLED", "AVAILABLE", "InvalidRequestException"),
        ("DISABLED", "DEPRECATED", "InvalidRequestException"), ("BUILDING", "DISABLED", "ResourceInUseException"),
        ("PENDING", "DEPRECATED", "ResourceInUseException"),
    ],
)  # fmt: skip
def test_states_that_do_not_follow(api: Api, before: str, after: str, code: str) -> None:
    """A failed image can only be deleted, and one that builds not at all."""
    arn = add_built(api, status=before)
    with refused(code):
        update(api, arn, after)


def test_an_update_needs_its_image(api: Api) -> None:
    """An unknown build, and one of the service."""
    with refused("ResourceNotFoundException"):
        update(api, image_arn(), "DISABLED")
    with refused("ResourceNotFoundException"):
        update(api, api.arn("image", "debian-12-x86/1.0.0/1", owner="aws"), "DISABLED")


def test_updates_have_a_quota(make_api: MakeApi) -> None:
    """Of those that have not ended."""
    api = make_api(quotas=Quotas(resource_state_updates=1))
    update(api, add_built(api), "DELETED", **INCLUDED)
    with refused("ServiceQuotaExceededException"):
        update(api, add_built(api, 2), "DELETED", **INCLUDED)
