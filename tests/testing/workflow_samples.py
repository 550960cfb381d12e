"""Workflow documents that several tests read."""

from __future__ import annotations

APPROVAL = """\
name: build-with-approval
schemaVersion: 1.0
parameters:
  - {name: topicArn, type: string, default: ""}
steps:
  - name: Launch
    action: LaunchInstance
    inputs: {waitFor: ssmAgent, healthCheck: RUNNING}
  - name: Components
    action: ExecuteComponents
    timeoutSeconds: 7200
    inputs:
      instanceId.$: "$.stepOutputs.Launch.instanceId"
  - name: Ask
    action: WaitForAction
    if:
      not: {stringEquals: "", value: "$.parameters.topicArn"}
    inputs:
      snsTopicArn.$: "$.parameters.topicArn"
      payload: '{"instance": "{{ $.stepOutputs.Launch.instanceId }}"}'
  - name: Capture
    action: CreateImage
    inputs:
      instanceId.$: "$.stepOutputs.Launch.instanceId"
  - name: Drop
    action: TerminateInstance
    onFailure: Continue
    inputs:
      instanceId.$: "$.stepOutputs.Launch.instanceId"
outputs:
  - name: ImageId
    value: "$.stepOutputs.Capture.imageId"
"""

LAUNCH = "name: Launch, action: LaunchInstance, inputs: {waitFor: ssmAgent}"


def document_of(*steps: str, before: str = "") -> str:
    """A document of steps, each the inside of a flow mapping on a line of its own; `before` are further keys."""
    lines = "".join(f"  - {{{step}}}\n" for step in steps)
    return f"schemaVersion: 1.0\n{before}steps:\n{lines}"
