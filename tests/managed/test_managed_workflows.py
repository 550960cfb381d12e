"""The managed workflows as documents: their steps, and which of them a build runs (spec/workflows.md 9)."""

from __future__ import annotations

from typing import Any

import pytest

from imagesmith.managed.catalog import ManagedWorkflow, managed_workflow, managed_workflows
from imagesmith.values.arn import slug_of
from imagesmith.workflow_documents.document import WORKFLOW_TYPES, WorkflowDocument
from imagesmith.workflow_documents.expressions import Scope, evaluate_condition
from imagesmith.workflow_documents.grammar import parse_workflow

LINUX_MACHINE = {"imageType": "AMI", "platform": "Linux", "collectImageMetadata": True}


def document(family: str, name: str) -> WorkflowDocument:
    parsed = parse_workflow(managed_workflow(family, name).text, WORKFLOW_TYPES[family])
    assert parsed.document is not None
    return parsed.document


def steps(found: WorkflowDocument, **variables: Any) -> list[str]:
    """The names of the steps that run with these variables, a `?` behind those that may fail."""
    scope = Scope(imagebuilder=variables)
    return [
        step.name + ("?" if step.on_failure == "Continue" else "")
        for step in found.steps
        if evaluate_condition(step.condition, scope)
    ]


@pytest.mark.parametrize("workflow", managed_workflows(), ids=lambda item: f"{item.family}/{item.name}")
def test_documents_are_sound(workflow: ManagedWorkflow) -> None:
    """Each is read without an error or a warning, is small enough for inline data, and is named as its slug."""
    parsed = parse_workflow(workflow.text, WORKFLOW_TYPES[workflow.family])
    assert parsed.problems == ()
    assert parsed.document is not None
    assert len(workflow.text) <= 16000
    assert workflow.name == slug_of(workflow.name) == parsed.document.name
    assert workflow.description == parsed.document.description
    assert not [parameter for parameter in parsed.document.parameters if not parameter.has_default]


def test_the_default_machine_build() -> None:
    """Seven steps, of which Linux runs all but the Windows one, and the image's id is put out."""
    found = document("build", "build-image")
    assert len(found.steps) == 7
    assert steps(found, **LINUX_MACHINE) == [
        "LaunchBuildInstance", "ApplyBuildComponents", "InventoryCollection", "RunSanitizeScript",
        "CreateOutputAMI", "TerminateBuildInstance?",
    ]  # fmt: skip
    windows = steps(found, **{**LINUX_MACHINE, "platform": "Windows", "collectImageMetadata": False})
    assert windows == [
        "LaunchBuildInstance", "ApplyBuildComponents", "RunSysPrepScript", "CreateOutputAMI",
        "TerminateBuildInstance?",
    ]  # fmt: skip
    assert [(output.name, output.value) for output in found.outputs] == [
        ("ImageId", "$.stepOutputs.CreateOutputAMI.imageId")
    ]
    assert [step.name for step in document("build", "build-image-with-update-ssm-agent").steps] == [
        "LaunchBuildInstance", "UpdateSSMAgent", *(step.name for step in found.steps[1:]),
    ]  # fmt: skip


def test_the_default_container_build() -> None:
    """Three steps; the instance stays and is put out for the distribution."""
    found = document("build", "build-container")
    names = ["LaunchBuildInstance", "BootstrapBuildInstance", "ApplyBuildComponents"]
    assert steps(found, imageType="DOCKER") == names
    assert [(output.name, output.value) for output in found.outputs] == [
        ("InstanceId", "$.stepOutputs.LaunchBuildInstance.instanceId")
    ]
    assert steps(document("distribution", "distribute-container")) == [
        "DistributeContainer",
        "TerminateBuildInstance?",
    ]


def test_the_default_tests() -> None:
    """A scan runs when it is asked for and may fail; components that fail end the workflow."""
    machine, container = document("test", "test-image"), document("test", "test-container")
    assert len(machine.steps) == 4
    assert steps(machine, collectImageScanFindings=False) == [
        "LaunchTestInstance", "ApplyTestComponents", "TerminateTestInstance?",
    ]  # fmt: skip
    assert steps(container, collectImageScanFindings=True, platform="Linux") == [
        "LaunchTestInstance", "BootstrapTestInstance", "CollectImageScanFindings?", "ApplyTestComponents",
        "TerminateTestInstance?",
    ]  # fmt: skip


def test_machine_distribution_is_three_steps() -> None:
    """Copies, launch permissions, configurations: each falls back to the attached configuration."""
    found = document("distribution", "distribute-image")
    assert steps(found) == ["DistributeImage", "ModifyImageAttributes", "ApplyImageConfigurations"]
    assert found.steps[0].inputs == {}


def test_unknown_names_are_told() -> None:
    """A name of another type is not found."""
    with pytest.raises(LookupError, match="test/build-image"):
        managed_workflow("test", "build-image")
