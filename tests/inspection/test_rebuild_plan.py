"""What a provenance holds for a rebuild, and what is refused instead of being built differently."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from imagesmith.inspection.provenance import RunDetails, statement
from imagesmith.inspection.rebuild_plan import NoPlan, read_plan
from imagesmith.recipes.plan import BuildPlan, PlannedComponent, PlannedParent, PlannedWorkflow, PushTarget
from imagesmith.recipes.reproducible import PlannedReproducible
from imagesmith.values.names import sha256_hex

PARENT = "sha256:" + "cd" * 32
PLAN = BuildPlan(
    image_arn="arn:aws:imagebuilder:us-east-1:000000000000:image/web/1.0.0/3", account="000000000000",
    region="us-east-1", name="web", version="1.0.0", build=3, kind="container",
    parent=PlannedParent("registry", "registry.example/base:1"),
    components=(PlannedComponent("arn:aws:imagebuilder:us-east-1:0:component/a/1.0.0/1", "name: a\n", {"A": "b"}),),
    dockerfile="FROM x\n", working_directory="/tmp", tests_enabled=True, tests_timeout_minutes=1,
    collect_metadata=True, targets=(PushTarget("us-east-1", "web", ()),), execution_role="role",
    workflows=(PlannedWorkflow("arn:b", "BUILD", "name: b"), PlannedWorkflow("arn:t", "TEST", "name: t")),
    reproducible=PlannedReproducible(5),
)  # fmt: skip


def stated(plan: BuildPlan) -> dict[str, Any]:
    moment = datetime(2026, 11, 23, tzinfo=UTC)
    details = RunDetails("web:1.0.0-3", "sha256:" + "ab" * 32, PARENT, moment, moment, "key")
    found: dict[str, Any] = json.loads(statement(plan, details))
    return found


def test_the_plan_is_read_back_without_what_has_no_part_in_the_bytes() -> None:
    """Where the image went, who ran it and what tested it are left out; the rules of the build stand beside it."""
    found = stated(PLAN)
    plan, parent = read_plan(found)
    assert parent == PARENT
    assert (plan.dockerfile, plan.components, plan.reproducible) == (
        PLAN.dockerfile,
        PLAN.components,
        PLAN.reproducible,
    )
    assert (plan.targets, plan.execution_role, plan.tests_enabled) == ((), "", False)
    assert [workflow.type for workflow in plan.workflows] == ["BUILD"]
    rules = found["predicate"]["buildDefinition"]["internalParameters"]["reproducible"]
    assert rules["sourceDateEpoch"] == 5 and rules["compression"]["format"] == "gzip"
    assert {"pattern", "why"} == set(rules["leftOut"][0])


def test_other_builds_say_nothing_of_it() -> None:
    """Their provenance carries no texts of the recipe."""
    found = stated(replace(PLAN, reproducible=None))
    assert "reproducible" not in found["predicate"]["buildDefinition"]["internalParameters"]
    with pytest.raises(NoPlan, match="only a reproducible build can be built again"):
        read_plan(found)


def changed(found: dict[str, Any], **members: Any) -> dict[str, Any]:
    found = copy.deepcopy(found)
    resources = found["predicate"]["buildDefinition"]["resolvedDependencies"]
    (plan,) = [item for item in resources if item["name"] == "plan"]
    plan.update(members)
    return found


def packed(text: str) -> dict[str, Any]:
    return {"content": base64.b64encode(text.encode()).decode(), "digest": {"sha256": sha256_hex(text)}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda found: changed(found, digest={"sha256": "00"}), "does not have the digest"),
        (lambda found: changed(found, content="%%%"), "cannot be read"),
        (lambda found: changed(found, **packed("[]")), "cannot be read"),
        (lambda found: changed(found, **packed("{}")), "cannot be read"),
        (lambda found: changed(found, **packed("[" * 5000)), "cannot be read"),
        (lambda found: {"predicate": {}}, "cannot be read"),
        (lambda found: {}, "cannot be read"),
    ],
)
def test_a_plan_that_is_not_whole_is_refused(
    change: Callable[[dict[str, Any]], dict[str, Any]], words: str
) -> None:
    """Nothing is built from half of it."""
    with pytest.raises(NoPlan, match=words):
        read_plan(change(stated(PLAN)))


def test_a_masked_parameter_is_named() -> None:
    """Its value is in no statement, and a build with the mask would be another one."""
    secret = replace(PLAN.components[0], parameters={"DbPassword": "hunter2"})
    found = stated(replace(PLAN, components=(secret,)))
    assert "hunter2" not in json.dumps(found)
    assert b"hunter2" not in base64.b64decode(
        found["predicate"]["buildDefinition"]["resolvedDependencies"][-1]["content"]
    )
    with pytest.raises(NoPlan, match="parameter 'DbPassword' looks secret"):
        read_plan(found)


def test_a_masked_parameter_of_the_workflow_is_named_too() -> None:
    """Those of workflows that build nothing are not in the plan at all."""
    build, test = PLAN.workflows
    found = stated(replace(PLAN, workflows=(build, replace(test, parameters={"Token": ("hunter2",)}))))
    assert read_plan(found)[0].workflows == (build,)
    found = stated(replace(PLAN, workflows=(replace(build, parameters={"Token": ("hunter2",)}), test)))
    with pytest.raises(NoPlan, match="parameter 'Token' looks secret"):
        read_plan(found)
