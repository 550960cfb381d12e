"""Generates docs/workflows.md from the tables that documents are checked with.

`python -m imagesmith.workflow_documents.reference >docs/workflows.md` regenerates it; a test compares them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Final, get_args

from imagesmith.managed.catalog import managed_workflows
from imagesmith.workflow_documents.actions import StepAction, step_actions
from imagesmith.workflow_documents.document import WORKFLOW_TYPES, WorkflowType
from imagesmith.workflow_documents.grammar import MAX_OUTPUTS, MAX_PARAMETERS, MAX_STEPS, parse_workflow
from imagesmith.workflow_documents.inputs import Input
from imagesmith.workflow_documents.step_conditions import MAX_OPERANDS, OPERATORS
from imagesmith.workflow_documents.variables import VARIABLES

_INTRODUCTION: Final = """\
# Workflow documents

A workflow document is YAML (or JSON): the steps that build, test or distribute an image. This page is generated
from the tables that documents are checked with:
`python -m imagesmith.workflow_documents.reference >docs/workflows.md`.

```console
$ imagesmith workflow new approval.yml                                   # a commented starter
$ imagesmith workflow new mine.yml --from build/build-container          # a managed one to change
$ imagesmith workflow validate approval.yml --type TEST                  # every problem, with its line
$ imagesmith workflow plan approval.yml --type TEST --param approver=me  # which steps would run, with which inputs
$ imagesmith workflow plan build/build-image --variable imageType=AMI    # the same for a managed one
```

A workflow is created with CreateWorkflow and named, with an `executionRole`, in the `workflows` of an image or a
pipeline. That list replaces the managed default: at most ten, of which one BUILD and one DISTRIBUTION.

## What differs from the service

| Topic | Here |
|---|---|
| Problems of a document | CreateWorkflow returns the first problem, the command line all of them with lines. |
| Unknown keys | Refused, also inside inputs. Anchors, aliases and custom tags are not part of the language. |
| Types of unquoted values | Only `true`, `false` and decimal numbers have types; \
dates, `yes`, `0777` remain strings. |
| A path under a key without `.$` | Resolved for the text, number and boolean inputs below, else literal; \
never with `strict_chaining` in `[builds]` of the settings. |
| Braces in conditions | `{{ $.path }}` is replaced in operands too. |
| A path that leads nowhere | Fails the step, in `if` as well; in `outputs` the output is undefined. |
"""

_EXAMPLE: Final = """\
## A whole document

It builds a container image, counts its accounts, and waits for an approval if there are too many.
`imagesmith image steps` shows the progress, and `imagesmith image approve --reason "for the lab"` approves.

```yaml
name: build-with-approval
schemaVersion: 1.0
parameters:
  - name: mostAccounts
    type: integer
    default: 30
steps:
  - name: Launch
    action: LaunchInstance
    inputs:
      waitFor: ssmAgent

  - name: Components
    action: ExecuteComponents
    timeoutSeconds: 7200
    inputs:
      instanceId.$: "$.stepOutputs.Launch.instanceId"

  - name: Count
    action: RunCommand
    inputs:
      instanceId.$: "$.stepOutputs.Launch.instanceId"
      documentName: AWS-RunShellScript
      parameters:
        commands:
          - wc -l </etc/passwd

  - name: Ask
    action: WaitForAction
    timeoutSeconds: 86400
    if:
      numberGreaterThan: "$.parameters.mostAccounts"
      value: "$.stepOutputs.Count.output[0]"
    inputs:
      payload: '{"image": "{{ $.imagebuilder.imageName }}", "accounts": {{ $.stepOutputs.Count.output[0] }}}'

outputs:
  - name: InstanceId
    value: "$.stepOutputs.Launch.instanceId"
```
"""

_LANGUAGE: Final = f"""\
## Document

| Key | Default | Meaning |
|---|---|---|
| `schemaVersion` | required | `1.0` |
| `name`, `description` | | free text |
| `parameters` | | up to {MAX_PARAMETERS}: `name`, `type` (`string`, `integer`, `boolean`, `stringList`), \
`default`, `description`; without a default a value must be given |
| `steps` | required | 1 to {MAX_STEPS}, one after the other |
| `outputs` | | up to {MAX_OUTPUTS}: `name` and `value`, a constant or a path without `.$`; \
`$.workflowOutputs` of later workflows |

A BUILD workflow must output `ImageId` for a machine image and `InstanceId` for a container image. An `ImageId`
that is not an AMI id ends the build with `Invalid ImageId output value, must be AMI ID as a string.` and names
its step.

## Steps

| Key | Default | Meaning |
|---|---|---|
| `name` | required | 3 to 128 letters, digits, `-`, `_`, a letter first; unique |
| `action` | required | one of the actions below |
| `description` | | 1 to 1024 characters |
| `if` | runs always | one condition; when it is false the step is SKIPPED and its inputs are not resolved |
| `inputs` | | as the action requires |
| `onFailure` | `Abort` | `Abort` ends the workflow and rolls back; `Continue` continues with the next step |
| `rollbackEnabled` | `true` | boolean, or a path to one |
| `timeoutSeconds` | of the action | 1 up to the action's maximum |

## Values

| Form | Value |
|---|---|
| `key.$: "$.path"` | the value at the path, in its own type, under `key`; also over a list of paths, at any depth |
| `"text {{{{ $.path }}}} text"` | the value as text; lists and mappings as JSON |
| `$.parameters.NAME` | a parameter |
| `$.stepOutputs.STEP.OUTPUT` | an output of an earlier step; `[0]`, `.name` select inside lists, maps, JSON text |
| `$.workflowOutputs.NAME` | an output of an earlier workflow of the image |
| `$.imagebuilder.VARIABLE` | a variable of the build, below |

Other text in braces, such as `{{{{ imagebuilder:buildDate }}}}`, is not changed; a path without
its `$.` (`{{{{ stepOutputs.Launch.instanceId }}}}`) and an output that the action does not list cause warnings.
Resolved values can lengthen the inputs of one step by at most 1 MiB. A resolved value is not resolved again.

## Conditions

`{{OPERATOR: a, value: b}}` compares `value` (left) with the operand of the operator (right). `and` and `or` take
1 to {MAX_OPERANDS} conditions and stop as soon as the result is known, `not` takes one; comparisons can be
nested to level 4.

Operators: OPERATORS.
"""


def reference_page() -> str:
    """The whole page as Markdown."""
    operators = ", ".join(f"`{name}`" for name in OPERATORS)
    parts = [_INTRODUCTION, _EXAMPLE, _LANGUAGE.replace("OPERATORS", operators), _variables(), _overview()]
    parts += [_action(action) for action in step_actions().values()]
    parts.append(_managed())
    return "\n".join(parts)


def _variables() -> str:
    rows = ["## Variables\n", "| `$.imagebuilder.` | Type | |", "|---|---|---|"]
    rows += [f"| `{item.name}` | {item.type} | {item.description} |" for item in VARIABLES]
    return "\n".join(rows) + "\n"


def _overview() -> str:
    types = get_args(WorkflowType)
    rows = [
        "## Actions\n",
        f"| Action | {' | '.join(types)} | Default timeout | Maximum | What it does |",
        f"|{'---|' * (len(types) + 4)}",
    ]
    for action in step_actions().values():
        marks = " | ".join("yes" if kind in action.types else "" for kind in types)
        name = f"[{action.name}](#{action.name.lower()})"
        rows.append(f"| {name} | {marks} | {action.default_timeout} | {action.max_timeout} | {action.summary} |")
    return "\n".join(rows) + "\n"


def _action(action: StepAction) -> str:
    lines = [f"### {action.name}\n", f"{action.summary}"]
    if action.rollback:
        lines.append(f"Rollback {action.rollback}.")
    if action.inputs:
        lines += ["", "| Input | Type | Required | Default | |", "|---|---|---|---|---|"]
        lines += [_row(path, spec) for path, spec in _flat(action.inputs)]
    if action.outputs:
        lines += ["", "| Output | Type | |", "|---|---|---|"]
        lines += [f"| `{item.name}` | {item.type} | {item.description} |" for item in action.outputs]
    return "\n".join(lines) + "\n"


def _flat(specs: tuple[Input, ...], before: str = "") -> Iterator[tuple[str, Input]]:
    """Inputs and their members, each under its path."""
    for spec in specs:
        ending = "[]" if spec.kind == "list" and spec.members else ""
        yield f"{before}{spec.name}{ending}", spec
        yield from _flat(spec.members, f"{before}{spec.name}{ending}.")


def _row(path: str, spec: Input) -> str:
    required = "yes" if spec.required else ""
    default = "" if spec.default is None else f"`{_format(spec.default)}`"
    choices = f" One of {', '.join(f'`{choice}`' for choice in spec.choices)}." if spec.choices else ""
    return f"| `{path}` | {_TYPES[spec.kind]} | {required} | {default} | {spec.description}{choices} |"


_TYPES: Final = {
    "string": "string",
    "boolean": "boolean",
    "integer": "integer",
    "json": "JSON text",
    "strings": "list of strings",
    "arguments": "map of lists of strings",
    "tags": "map of strings",
    "map": "map",
    "list": "list of maps",
    "images": "path to a list of maps",
}


def _format(value: str | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else value


def _managed() -> str:
    rows = [
        "## Managed workflows\n",
        "Owned by `aws` in ARNs, and named there with the version `x.x.x` only. Without `workflows` an image takes "
        "build-image and test-image, a container image build-container and test-container.\n",
        "| Name | Version | Steps | |",
        "|---|---|---|---|",
    ]
    for item in managed_workflows():
        steps = _steps(item.family, item.text)
        rows.append(f"| `{item.family}/{item.name}` | {item.version} | {steps} | {item.description} |")
    return "\n".join(rows) + "\n"


def _steps(family: str, text: str) -> str:
    document = parse_workflow(text, WORKFLOW_TYPES[family]).document
    return ", ".join(step.name for step in document.steps) if document is not None else ""


if __name__ == "__main__":
    sys.stdout.write(reference_page())
