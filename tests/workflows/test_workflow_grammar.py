"""Workflow documents: what is accepted, what is refused, and where the problems stand."""

from __future__ import annotations

import json

import yaml

from imagesmith.workflows.document import parameter_details
from imagesmith.workflows.grammar import ParsedWorkflow, parse_workflow
from workflows.workflow_samples import APPROVAL


def codes(parsed: ParsedWorkflow) -> list[str]:
    return [problem.code for problem in parsed.errors]


def test_a_whole_document_is_read() -> None:
    """Parameters, steps with their defaults, conditions and outputs of a document are all there."""
    parsed = parse_workflow(APPROVAL, "BUILD")
    assert parsed.problems == ()
    document = parsed.document
    assert document is not None
    assert document.name == "build-with-approval"
    launch, components, ask, _, drop = document.steps
    assert (launch.timeout_seconds, components.timeout_seconds) == (4500, 7200)
    assert (launch.on_failure, drop.on_failure) == ("Abort", "Continue")
    assert launch.rollback is True
    assert launch.inputs == {"waitFor": "ssmAgent", "healthCheck": "RUNNING"}
    assert components.inputs == {"instanceId.$": "$.stepOutputs.Launch.instanceId"}
    assert ask.condition is not None
    assert document.output("ImageId") is not None
    assert parameter_details(document) == [{"name": "topicArn", "type": "string", "defaultValue": [""]}]


def test_json_text_is_accepted() -> None:
    """A document may be JSON, because that is YAML."""
    text = json.dumps(yaml.safe_load(APPROVAL))
    parsed = parse_workflow(text, "BUILD")
    assert parsed.document is not None, parsed.problems
