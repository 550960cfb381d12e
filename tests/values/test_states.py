"""States: their groups, and that no other module spells one out."""

from __future__ import annotations

import ast
from enum import StrEnum
from pathlib import Path

import pytest

from imagesmith.values import states
from imagesmith.values.states import (
    BUILT_IMAGE,
    FINAL_EXECUTION,
    FINAL_IMAGE,
    FINAL_STEP,
    UNFINISHED_IMAGE,
    UNSUCCESSFUL_IMAGE,
    ExecutionStatus,
    ImageStatus,
    StepStatus,
    StepVerdict,
)

SOURCE = Path(states.__file__).parents[1]
ENUMERATIONS = [item for item in vars(states).values() if isinstance(item, type) and issubclass(item, StrEnum)]
OTHER_WORDS = {
    "cli/component_view.py": "a word for a step of a component",
    "engine/run_queue.py": "a status of DBOS",
    "engine/takeover.py": "a status of DBOS",
    "workflow_documents/actions.py": "a choice of an input of LaunchInstance",
    "builds/steps/hooks.py": "a status of Step Functions",
    "distribution/client.py": "a method of HTTP",
    "inspection/evidence.py": "a result of in-toto's predicate",
}
"""Modules that speak of something else under the same word."""


def literals(module: ast.Module) -> set[str]:
    """The texts of a module."""
    return {
        node.value for node in ast.walk(module) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def test_no_other_module_spells_a_state_out() -> None:
    """A misspelt state would be a state that nothing is ever in; members of the enumerations cannot be misspelt."""
    names = {str(member) for enumeration in ENUMERATIONS for member in enumeration} - {"ACTIVE"}
    spelt = {
        str(path.relative_to(SOURCE)): found
        for path in SOURCE.rglob("*.py")
        if "migrations" not in path.parts and (found := names & literals(ast.parse(path.read_text())))
    }
    assert spelt.pop("values/states.py") == names
    assert {path: found for path, found in spelt.items() if path not in OTHER_WORDS} == {}
    assert OTHER_WORDS.keys() == spelt.keys()


def test_an_image_is_unfinished_or_final_and_each_group_is_of_one_kind() -> None:
    """A run works on an unfinished image; what was built, and what failed, is final."""
    assert FINAL_IMAGE.isdisjoint(UNFINISHED_IMAGE) and FINAL_IMAGE | set(UNFINISHED_IMAGE) == set(ImageStatus)
    assert set(BUILT_IMAGE) | set(UNSUCCESSFUL_IMAGE) == FINAL_IMAGE - {ImageStatus.DELETED}


def test_a_verdict_is_the_final_status_of_a_step_unless_the_step_was_lost() -> None:
    """The record of a step takes the status of its result."""
    assert {StepStatus(verdict) for verdict in StepVerdict if verdict != StepVerdict.LOST} == FINAL_STEP
    with pytest.raises(ValueError, match="LOST"):
        StepStatus(StepVerdict.LOST)
    assert ExecutionStatus.ROLLBACK_IN_PROGRESS not in FINAL_EXECUTION
