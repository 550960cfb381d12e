"""The keys of machine images in the cache: all that a component can read is in them, and time is given."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from imagesmith.artifacts.overlays import DiskState
from imagesmith.build_logs.logs import log_path
from imagesmith.builds.disk_cache import Stage, find_values, keep_values, log_hit, stages, values_key
from imagesmith.builds.steps.context import StepRun
from imagesmith.instances.machine.options import MachineOptions
from imagesmith.recipes.plan import BuildPlan, PlannedComponent, PlannedMachine, PlannedParent
from testing.clocks import MovingClock
from testing.plans import ARN as MACHINE_ARN
from testing.plans import PLAN as MACHINE_PLAN

NOW = datetime(2026, 11, 28, 23, 30, tzinfo=UTC)
ARN = "arn:aws:imagebuilder:us-east-1:123456789012:component/web/1.0.0/1"
PLAN = BuildPlan(
    image_arn="arn:aws:imagebuilder:us-east-1:123456789012:image/web/1.0.0/1", account="123456789012",
    region="us-east-1", name="web", version="1.0.0", build=1, kind="machine",
    parent=PlannedParent("managed", "base"), components=(), dockerfile="", working_directory="/tmp",
    tests_enabled=True, tests_timeout_minutes=60, collect_metadata=True, targets=(),
)  # fmt: skip
CONSTANT = {"IMAGE_PHASE": "BUILDING", "IMAGE_VERSION": "1.0.0", "WORKING_DIRECTORY": "/tmp"}


def environment(build: int) -> dict[str, str]:
    return {
        **CONSTANT, "IMAGE_BUILD_VERSION": str(build), "IMAGE_BUILD_VERSION_ARN": f"image/web/1.0.0/{build}",
        "IMAGE_WORKFLOW_EXECUTION_ID": f"wf-{build}", "IMAGE_STEP_EXECUTION_ID": f"step-{build}",
        "IMAGE_PIPELINE_ARN": "pipeline/web",
    }  # fmt: skip


def stage(text: str, build: int = 1, *, now: datetime = NOW, **parameters: str) -> Stage:
    state = DiskState("0" * 40, NOW.timestamp())
    (found,) = stages(PLAN, state, [PlannedComponent(ARN, text, parameters)], environment(build), now=now)
    return found


@pytest.mark.parametrize(
    "command",
    [
        "env | grep ^IMAGE_ | sort >/etc/build-info",
        "printenv >/etc/build-info",
        "for name in ${!IMAGE_@}; do echo $name=${!name}; done",
        "python3 -c 'import os; print(dict(os.environ))'",
        "curl -fsS https://example.org/setup.sh | sh",
        "cat /proc/self/environ",
        "part=BUILD; eval echo \\$IMAGE_${part}_VERSION",
    ],
)
def test_a_component_that_may_be_kept_sees_nothing_that_is_not_in_its_key(command: str) -> None:
    """However a script looks for variables, two builds with one key give it the same ones."""
    one, two = stage(command, 1), stage(command, 2)
    assert one.key == two.key and one.environment == two.environment == CONSTANT


def test_a_variable_that_is_named_is_seen_and_makes_another_key() -> None:
    """Only its whole name counts, in the document or in the value of a parameter."""
    one, two = stage("echo $IMAGE_BUILD_VERSION", 1), stage("echo $IMAGE_BUILD_VERSION", 2)
    assert one.key != two.key
    assert dict(two.environment) == {**CONSTANT, "IMAGE_BUILD_VERSION": "2"}
    assert "IMAGE_BUILD_VERSION" not in stage("echo ${IMAGE_BUILD_VERSION_ARN}").environment
    assert "IMAGE_BUILD_VERSION" in stage("{{ Command }}", Command="echo $IMAGE_BUILD_VERSION").environment
    assert "IMAGE_BUILD_VERSION" in stage("{{ env:IMAGE_BUILD_VERSION }}").environment


@pytest.mark.parametrize(
    "text",
    [
        "{{ context:uuid }}", "{{ context:dateTime }}", "{{ context:executionId }}", "{{ aws:imds:instance-id }}",
        "{{ aws:ssm:/release }}", "action: ExecuteDocument",
    ],
)  # fmt: skip
def test_what_is_read_at_the_run_is_never_kept(text: str) -> None:
    """It has no key and a reason, and sees every variable, as it would without the cache."""
    found = stage(text)
    assert found.key == "" and "web/1.0.0/1 uses " in found.why
    assert dict(found.environment) == environment(1)


def test_what_follows_a_component_that_is_never_kept_is_not_kept_either() -> None:
    """The reason names the first one."""
    components = [PlannedComponent(ARN, text, {}) for text in ("echo", "{{ context:uuid }}", "echo")]
    found = stages(PLAN, DiskState("0" * 40, 0.0), components, environment(1), now=NOW)
    assert [bool(item.key) for item in found] == [True, False, False]
    assert found[2].why == found[1].why == "web/1.0.0/1 uses context:uuid, which differs in every run"
    assert dict(found[2].environment) == environment(1) and dict(found[0].environment) == CONSTANT


def test_a_document_with_the_date_has_a_key_for_each_day() -> None:
    """The day is that of the clock that was given, in UTC; other documents do not change at midnight."""
    later = NOW + timedelta(hours=1)
    assert stage("{{ context:date }}").key != stage("{{ context:date }}", now=later).key
    assert stage("{{ context:date }}").key == stage("{{ context:date }}", now=NOW - timedelta(hours=23)).key
    assert stage("echo").key == stage("echo", now=later).key


def test_every_other_input_makes_another_key() -> None:
    """Document, parameter and what comes before."""
    plain: dict[str, Any] = {"text": "echo", "Packages": "a"}
    keys = {
        stage(**plain).key, stage(**{**plain, "text": "echo 1"}).key, stage(**{**plain, "Packages": "b"}).key,
    }  # fmt: skip
    assert len(keys) == 3
    assert replace(stage(**plain), why="").key in keys and MachineOptions().user_data == b""


@pytest.mark.tool
def test_a_state_is_found_until_it_is_as_old_as_the_run_allows(run: StepRun, clock: MovingClock) -> None:
    """Its age is that of the oldest part it was made from, by the clock of the worker, and the log says it."""
    run = replace(run, plan=replace(MACHINE_PLAN, machine=PlannedMachine(cache_seconds=7200.0)))
    state = DiskState("0" * 40, clock().timestamp())
    clock.advance(minutes=30)
    keep_values(run, state, "inventory", {"rows": []}, now=clock())
    key = values_key(state.key, "inventory")
    clock.advance(minutes=60)
    found = find_values(run, key)
    assert found is not None and found.entry.values == {"rows": []}
    log_hit(run, "inventory", found, now=clock())
    log = log_path(run.worker_context.settings.data_dir / "logs", MACHINE_ARN)
    assert "(at most 1.5 h old)" in log.read_text()
    clock.advance(minutes=29)
    assert find_values(run, key) is not None
    clock.advance(minutes=2)
    assert find_values(run, key) is None


@pytest.mark.tool
def test_the_settings_bound_the_age_that_a_run_may_allow(run: StepRun, clock: MovingClock) -> None:
    """A run that allows a year finds nothing that is older than `machines.cache_max_age_hours`."""
    run = replace(run, plan=replace(MACHINE_PLAN, machine=PlannedMachine(cache_seconds=365 * 86400.0)))
    state = DiskState("1" * 40, clock().timestamp())
    keep_values(run, state, "image", {"digest": "sha256:1"}, now=clock())
    hours = run.worker_context.settings.machines.cache_max_age_hours
    clock.advance(hours=hours, seconds=-60)
    assert find_values(run, values_key(state.key, "image")) is not None
    clock.advance(seconds=120)
    assert find_values(run, values_key(state.key, "image")) is None
