"""The kinds of image: one for each kind of plan, and an answer of each to every action there is."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args, get_type_hints

import pytest

from imagesmith.builds.kinds import KINDS, build_kind
from imagesmith.builds.steps.table import WAIT
from imagesmith.recipes.plan import BuildPlan
from imagesmith.workflow_documents.actions import step_actions
from testing.plans import PLAN

ONLY_CONTAINERS = {"BootstrapInstanceForContainer", "DistributeContainerImage"}
ONLY_MACHINES = {
    "ApplyImageConfigurations", "CreateImage", "DistributeImage", "ModifyImageAttributes", "RegisterImage",
    "SanitizeInstance",
}  # fmt: skip
UNBUILT = {"CreateImageFromIso", "RunSysPrep"}


def test_every_kind_of_plan_is_built() -> None:
    """The table has a row for each value that a plan may have, and no other."""
    names = get_args(get_type_hints(BuildPlan)["kind"])
    assert sorted(KINDS) == sorted(names)
    assert {name: build_kind(replace(PLAN, kind=name)) for name in names} == dict(KINDS)


@pytest.mark.parametrize(("kind", "foreign"), [("container", ONLY_MACHINES), ("machine", ONLY_CONTAINERS)])
def test_every_action_is_carried_out_or_refused_by_name(kind: str, foreign: set[str]) -> None:
    """An action of the other kind, or one that this version has not, is refused in a sentence that names it."""
    build = KINDS[kind]
    missing = set(step_actions()) - set(build.actions) - {WAIT}
    assert missing == foreign | UNBUILT
    for action in missing:
        assert action in build.refusal(action)
    assert set(build.actions) <= set(step_actions())


@pytest.mark.parametrize(
    ("kind", "action", "words"),
    [
        ("container", "CreateImage", "run it only if $.imagebuilder.imageType is AMI"),
        ("machine", "DistributeContainerImage", "it is for container images"),
        ("machine", "RunSysPrep", "Windows machines are not built"),
        ("machine", "CreateImageFromIso", "installation media are not built"),
    ],
)
def test_a_refusal_says_why(kind: str, action: str, words: str) -> None:
    """For the other kind of image, or for none that this version builds."""
    assert words in KINDS[kind].refusal(action)


@pytest.mark.parametrize(
    ("kind", "dockerfile", "idle"),
    [
        ("container", "FROM {{{ imagebuilder:parentImage }}}\n{{{ imagebuilder:components }}}\n", False),
        ("container", "FROM {{{ imagebuilder:parentImage }}}\n", True),
        ("machine", "", False),
    ],
)
def test_a_dockerfile_without_the_variable_runs_no_components(kind: str, dockerfile: str, idle: bool) -> None:
    """Machines have no Dockerfile, so theirs always run."""
    plan = replace(PLAN, dockerfile=dockerfile)
    assert bool(KINDS[kind].without_components(plan)) is idle
