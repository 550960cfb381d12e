"""A run under an execution role: what it may not use ends it before anything is pushed."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from imagesmith.builds.container_build import ContainerBuild
from imagesmith.builds.records import ImageRecords
from imagesmith.builds.work import Work
from imagesmith.builds.worker_context import WorkerContext
from imagesmith.components.services import S3Config
from imagesmith.distribution.containers import distribute, refused_targets
from imagesmith.distribution.failures import DistributionFailed
from imagesmith.distribution.role_access import refused_log_group, s3_of
from imagesmith.processes import Cancellation
from imagesmith.recipes.plan import BuildPlan, PlannedParent, PlannedRole, PushTarget
from imagesmith.settings import Registry, Settings
from imagesmith.store.database import Database
from testing.clocks import MovingClock
from testing.network import free_port
from testing.registry_support import RunningRegistry

PLAN = BuildPlan(
    image_arn="arn:aws:imagebuilder:eu-west-1:123456789012:image/web/1.0.0/1", account="123456789012",
    region="eu-west-1", name="web", version="1.0.0", build=1, kind="container",
    parent=PlannedParent("layout", "oci:x"), components=(), dockerfile="", working_directory="/tmp",
    tests_enabled=True, tests_timeout_minutes=60, collect_metadata=True,
    targets=(PushTarget("eu-west-1", "web", ()), PushTarget("us-east-1", "web", ())),
)  # fmt: skip


def settings_with(folder: Path, host: str) -> Settings:
    registries = {"eu-west-1": Registry(host, insecure=True), "us-east-1": Registry(f"{host}/us", insecure=True)}
    return Settings(data_dir=folder, registries=registries)


@pytest.mark.parametrize(
    ("registries", "refused"),
    [
        (None, []),
        ((), ["eu-west-1", "us-east-1"]),
        (("*",), []),
        (("eu-west-1",), ["us-east-1"]),
        (("123456789012/us-east-1",), ["eu-west-1"]),
        (("999999999999/us-east-1",), ["eu-west-1", "us-east-1"]),
        (("registry.example",), []),
        (("registry.example/us",), ["eu-west-1"]),
        (("registry.exam",), ["eu-west-1", "us-east-1"]),
    ],
)
def test_registries_are_named_by_region_or_url(
    tmp_path: Path, registries: tuple[str, ...] | None, refused: list[str]
) -> None:
    """A URL stands for every path below it; no role withholds nothing."""
    role = None if registries is None else PlannedRole("builder", registries=registries)
    found = refused_targets(replace(PLAN, role=role), settings_with(tmp_path, "registry.example"))
    assert [target.region for target, _ in found] == refused


def test_nothing_is_pushed_when_one_target_is_out_of_reach(
    tmp_path: Path, sqlite_database: Database, clock: MovingClock, own_registry: RunningRegistry
) -> None:
    """All targets are checked first: the reason names role and registry, and no repository is made."""
    own_registry.start()
    settings = settings_with(tmp_path / "data", own_registry.host)
    settings.data_dir.mkdir()
    worker_context = WorkerContext.open(settings, ImageRecords(sqlite_database, clock), clock)
    plan = replace(PLAN, role=PlannedRole("builder", registries=("eu-west-1",)))
    try:
        with worker_context.log(plan.image_arn) as log, pytest.raises(DistributionFailed) as caught:
            work = Work(worker_context, plan, log, Cancellation(), kind=ContainerBuild())
            distribute(work.distribution, "sha256:0")
    finally:
        worker_context.close()
    assert "the execution role builder has no access to the registry" in caught.value.reason
    assert '[roles."builder"]' in caught.value.reason and "Nothing was pushed" in caught.value.reason
    [failure] = caught.value.context["distributionFailure"]["regionFailures"]
    assert failure["region"] == "us-east-1"
    with urllib.request.urlopen(f"http://{own_registry.host}/v2/_catalog") as answer:
        assert json.load(answer) == {"repositories": []}


@pytest.mark.parametrize(
    ("groups", "group", "allowed"),
    [
        ((), "/aws/imagebuilder/web", True),
        ((), "/mine", False),
        (("/mine",), "/mine", True),
        (("/mine/*",), "/mine/web", True),
        (("/mine",), "/mine/web", False),
    ],
)
def test_log_groups_outside_the_services_own_need_an_entry(
    groups: tuple[str, ...], group: str, allowed: bool
) -> None:
    """The sentence names the role and the group."""
    sentence = refused_log_group(replace(PLAN, role=PlannedRole("builder", log_groups=groups), log_group=group))
    assert sentence == "" if allowed else ("builder" in sentence and group in sentence)


def test_a_run_reaches_only_the_buckets_of_its_role() -> None:
    """Another bucket is refused before a request is sent; without a role nothing is withheld."""
    store = S3Config(f"http://127.0.0.1:{free_port()}", "us-east-1", "AKIA", "s" * 20)
    limited = s3_of(replace(PLAN, role=PlannedRole("builder", buckets=("mine-*",))), store)
    for call in (limited.client().get_object, limited.client().put_object):
        with pytest.raises(ClientError) as caught:
            call(Bucket="theirs", Key="k")
        assert caught.value.response["Error"]["Code"] == "AccessDenied"
        assert "builder has no access to the bucket theirs" in str(caught.value)
    assert s3_of(PLAN, store) is store


def test_the_buckets_of_a_role_are_asked() -> None:
    """A bucket that the role names leads to the store itself."""
    store = S3Config(f"http://127.0.0.1:{free_port()}", "us-east-1", "AKIA", "s" * 20)
    client = s3_of(replace(PLAN, role=PlannedRole("builder", buckets=("mine",))), store).client()
    client.meta.config.retries = {"max_attempts": 0}
    with pytest.raises(EndpointConnectionError):
        client.head_bucket(Bucket="mine")
