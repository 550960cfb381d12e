"""Where a retry begins, and how what it repeats is told from what was."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesmith.builds.journal import child_key, child_of, image_of, is_child, retry_key
from imagesmith.builds.retry import phase_to_repeat
from imagesmith.recipes.plan import BuildPlan, PlannedParent, PlannedScan, PlannedWorkflow
from imagesmith.store.build_outcome import Retry
from imagesmith.values.states import ImageStatus

ARN = "arn:aws:imagebuilder:us-east-1:123456789012:image/web/1.0.0/1"
PHASES = st.lists(st.sampled_from([ImageStatus.TESTING, ImageStatus.DISTRIBUTING]), max_size=6)
TEST = PlannedWorkflow("test", "TEST", "")
PLAN = BuildPlan(
    image_arn=ARN, account="123456789012", region="us-east-1", name="web", version="1.0.0", build=1, kind="machine",
    parent=PlannedParent("machine", "ami-1"), components=(), dockerfile="", working_directory="/tmp",
    tests_enabled=True, tests_timeout_minutes=60, collect_metadata=True, targets=(),
    workflows=(PlannedWorkflow("build", "BUILD", ""), TEST, TEST, PlannedWorkflow("end", "DISTRIBUTION", "")),
)  # fmt: skip


@pytest.mark.parametrize("ended_in", ["TESTING", "DISTRIBUTING", "INTEGRATING"])
def test_a_retry_goes_back_to_the_phase_that_did_not_succeed(ended_in: str) -> None:
    """Integrating belongs to the distribution (spec/workflows.md 11.2)."""
    expected = "TESTING" if ended_in == "TESTING" else "DISTRIBUTING"
    assert phase_to_repeat(PLAN, ended_in, built=True) == expected


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (PLAN, "TESTING"),
        (replace(PLAN, tests_enabled=False), "DISTRIBUTING"),
        (replace(PLAN, workflows=PLAN.workflows[:1]), "DISTRIBUTING"),
        (replace(PLAN, workflows=PLAN.workflows[:1], scan=PlannedScan("", on_demand=True)), "TESTING"),
    ],
)
def test_an_image_that_ended_right_after_its_build_goes_on_after_it(plan: BuildPlan, expected: str) -> None:
    """Between two phases the next one that has something to do is the one that did not succeed."""
    assert phase_to_repeat(plan, "BUILDING", built=True) == expected
    assert phase_to_repeat(plan, "BUILDING", built=False) is None
    assert phase_to_repeat(plan, "CREATING", built=False) is None


@given(PHASES)
def test_no_two_runs_of_a_workflow_share_a_record(phases: list[ImageStatus]) -> None:
    """What is repeated has a name and a place of its own, behind all before it; what is kept has its old ones."""

    def position_of(type: str, index: int) -> int:
        return retry.position_of(type, index, workflows=len(PLAN.workflows))

    retry = Retry()
    seen: dict[str, int] = {}
    for number, phase in enumerate([None, *phases]):
        retry = retry.next(phase) if phase else retry
        assert retry.number == number
        repeated = {"TESTING": ("TEST", "DISTRIBUTION"), "DISTRIBUTING": ("DISTRIBUTION",)}.get(
            phase or "", ("BUILD", "TEST", "DISTRIBUTION")
        )
        for position, planned in enumerate(PLAN.workflows):
            name, place = retry.name_of(planned.type, position), position_of(planned.type, position)
            if planned.type in repeated:
                assert name not in seen and all(place > other for other in seen.values())
            else:
                assert seen[name] == place
            seen[name] = place
    assert len(set(seen.values())) == len(seen)


@given(st.integers(0, 10**6), st.text("abcdef0123456789-", min_size=1))
def test_keys_of_runs_tell_what_they_are_for(number: int, part: str) -> None:
    """Retries and parts are runs of their own, and all of them say which image they belong to."""
    key = retry_key(ARN, number)
    assert (image_of(key), child_of(key), is_child(key)) == (ARN, "", False)
    assert (key == ARN) == (number == 0)
    key = child_key(ARN, part)
    assert (image_of(key), child_of(key), is_child(key)) == (ARN, part, True)
