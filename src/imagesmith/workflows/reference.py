"""docs/workflows.md, written from the tables that documents are checked with.

`python -m imagesmith.workflows.reference >docs/workflows.md` writes it anew; a test compares them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Final, get_args

from imagesmith.managed.catalog import managed_workflows
from imagesmith.workflows.actions import StepAction, step_actions
from imagesmith.workflows.conditions import MAX_OPERANDS, OPERATORS
from imagesmith.workflows.document import WORKFLOW_TYPES, WorkflowType
from imagesmith.workflows.grammar import MAX_OUTPUTS, MAX_PARAMETERS, MAX_STEPS, parse_workflow
from imagesmith.workflows.inputs import Input
from imagesmith.workflows.variables import VARIABLES

_INTRODUCTION: Final = """\
# Workflow documents

A workflow document is YAML (or JSON): the steps that build, test or distribute an image. This page is generated
from the tables that documents are checked with: `python -m imagesmith.workflows.reference >docs/workflows.md`.

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
| Problems of a document | CreateWorkflow tells the first of its checks, the command line all at once with lines. |
| Unknown keys | Refused, also inside inputs. Anchors, aliases and tags of one's own are no part of the language. |
| Types of unquoted values | Only `true`, `false` and decimal numbers are typed; dates, `yes`, `0777` stay texts. |
| A path under a key without `.$` | Resolved for the text, number and boolean inputs below, else literal; \
never with `strict_chaining` in `[builds]` of the settings. |
| Braces in conditions | `{{ $.path }}` is replaced in operands too. |
| A path that leads nowhere | Fails the step, in `if` as well; in `outputs` the output is undefined. |
"""

_EXAMPLE: Final = """\
## A whole document

It builds a container image, counts its accounts, and asks before one with too many goes on. How far it is shows
`imagesmith image steps`, and `imagesmith image approve --reason "for the lab"` answers.

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

A BUILD workflow must put out `ImageId` for a machine image and `InstanceId` for a container image.

## Steps

| Key | Default | Meaning |
|---|---|---|
| `name` | required | 3 to 128 letters, digits, `-`, `_`, a letter first; unique |
| `action` | required | one of the actions below |
| `description` | | 1 to 1024 characters |
| `if` | runs always | one condition; when it is false the step is SKIPPED and its inputs are not resolved |
| `inputs` | | as the action wants |
| `onFailure` | `Abort` | `Abort` ends the workflow and rolls back; `Continue` goes on with the next step |
| `rollbackEnabled` | `true` | boolean, or a path to one |
| `timeoutSeconds` | of the action | 1 up to the action's maximum |

## Values

| Form | Value |
|---|---|
| `key.$: "$.path"` | the value at the path, in its own type, under `key`; also over a list of paths, at any depth |
| `"text {{{{ $.path }}}} text"` | the value as text; lists and mappings as JSON |
| `$.parameters.NAME` | a parameter |
| `$.stepOutputs.STEP.OUTPUT` | what an earlier step put out; `[0]`, `.name` go on into lists, maps, JSON text |
| `$.workflowOutputs.NAME` | what an earlier workflow of the image put out |
| `$.imagebuilder.VARIABLE` | a variable of the build, below |

Other text in braces, such as `{{{{ imagebuilder:buildDate }}}}`, stays as it is. A resolved value is never read
again.

## Conditions

`{{OPERATOR: a, value: b}}` compares `value` (left) with what stands at the operator (right). `and` and `or` take
1 to {MAX_OPERANDS} conditions and stop as soon as the result is known, `not` takes one; the deepest comparison may
stand on level 4.

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
        places = " | ".join("yes" if kind in action.types else "" for kind in types)
        name = f"[{action.name}](#{action.name.lower()})"
        rows.append(f"| {name} | {places} | {action.default_timeout} | {action.max_timeout} | {action.summary} |")
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
    default = "" if spec.default is None else f"`{_shown(spec.default)}`"
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


def _shown(value: str | bool) -> str:
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
