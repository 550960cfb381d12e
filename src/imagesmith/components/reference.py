"""Generates docs/components.md from the schemas that documents are checked with.

`python -m imagesmith.components.reference >docs/components.md` regenerates it; a test compares them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

from imagesmith.components.actions.assertions import ASSERT
from imagesmith.components.actions.base import Action
from imagesmith.components.actions.registry import action_registry
from imagesmith.components.expressions import CONTEXT_KEYS
from imagesmith.managed.catalog import managed_components

_INTRODUCTION: Final = """\
# Component documents

A component document is YAML (or JSON): phases of steps that change or test an instance. This page is generated from
the schemas that documents are checked with: `python -m imagesmith.components.reference >docs/components.md`.

```console
$ imagesmith component new web.yml                                          # a commented starter
$ imagesmith component validate web.yml                                     # every problem, with its line
$ imagesmith component run web.yml --on container:debian-x86-12 --watch     # again after each save
$ imagesmith component run web.yml --on machine:debian-12-x86               # where it can restart
```

## What differs from the service

| Topic | Here |
|---|---|
| Standard error of a step | Logged while the step runs, not after it. |
| ExecuteBash | The script reaches bash on a file descriptor; nothing is written to the instance. \
`$0` is `/dev/fd/9`. |
| Background programs | A process that a step leaves running (`nohup app &`) runs until the instance ends; on this \
computer it is not stopped. A timeout and a cancel end all processes of the step. Output after the end \
of the step is logged for up to three seconds, until it pauses for one; a line of the log says if more can follow. |
| sudo | In containers commands run as root. `sudo` and other set-user-id programs work for every user, and give \
the rights of root inside the container; `sudo` warns that it cannot send an audit message. |
| WebDownload, S3Download, S3Upload | Executed by the worker, so the instance needs neither tools nor \
credentials. Addresses of the worker itself are refused. |
| `aws:ssm:` | The values of `imagesmith parameter put`, of the account and Region of the build. Those put with \
`--secure` are masked in logs, records and errors. Versions and labels are not supported. |
| `aws:imds:` | On a machine, the answer of its metadata service. A container has `instance-id`, `placement/...` \
and `services/...`; a path that exists only on machines fails the step by name. |
| ExecuteDocument | An ARN is resolved as in a recipe: managed and own components, wildcards, a missing build. \
Documents that are known when a recipe is created are checked then, and are part of the plan and of the \
provenance; an ARN that contains outputs, `env:` or `aws:ssm:` is resolved in the run, and the log names the \
component. Components of other accounts are refused. A run executes at most 1,000 documents. |
| Reboot | A container cannot restart: the step fails with that reason. \
On this computer a run with `--state-directory` ends with status 194, and continues when it is started again. |
| Phases | Builds run `build`, `validate` and `test`. A recipe refuses a component with any other phase by name, \
in a container recipe `container-host-test` too: it would run outside of every sandbox. |
| Parameters | A name given twice, a list of values, a value outside `allowedValues`, a missing or unknown name: \
refused when the recipe is created, and by `component run`. |
| patternMatches | RE2's syntax, without `\\C`; always linear time. |
| Windows actions | Checked in full. Running one fails: there are no Windows instances in this version. |
"""

_LANGUAGE: Final = """\
## Steps

| Key | Default | Meaning |
|---|---|---|
| `name` | required | 3 to 128 letters, digits, `-`, `_`; unique in its phase |
| `action` | required | one of the actions below |
| `inputs` | | a mapping, or a list of mappings for list actions |
| `timeoutSeconds` | `7200` | for each attempt, all iterations together; `-1`: no limit |
| `maxAttempts` | `1` | attempts before the step fails |
| `onFailure` | `Abort` | `Abort` ends the run, `Continue` fails in the end, `Ignore` only counts the failure |
| `if` | | one condition, with `then` and `else`: `Execute`, `Skip` or `Abort` |
| `loop` | | `for: {start, end, updateBy}` or `forEach:` a list, or `{list, delimiter}` |
| `disableLogging` | `false` | keep output, inputs and outputs out of all logs; also for phases and documents |

## References

| Form | Value |
|---|---|
| `{{ Name }}` | a parameter or constant |
| `{{ phase.step.inputs.key }}`, `{{ phase.step.outputs[0].key }}` | an input and an output of a step |
| `{{ loop.index }}`, `{{ loop.value }}`, `{{ NAME.value }}` | of the loop of the same step |
| `{{ env:NAME }}` | a variable of the instance or the build |
| `{{ aws:ssm:/name }}`, `{{ aws:ssm:resolve(Name) }}` | a stored parameter; secure values are masked everywhere |
| `{{ aws:imds:path }}` | instance metadata, without credentials |
| `{{ context:KEY }}` | KEYS |

Text in braces that is none of these (`{{ .Field }}`, `{{ a | b }}`, an unterminated `{{`) is not changed;
a misspelt form causes a warning that names the likely one. References in `default` and `value` are
not replaced; they cause a warning too.
"""


def reference_page() -> str:
    """The whole page as Markdown."""
    keys = ", ".join(f"`{key}`" for key in CONTEXT_KEYS)
    parts = [_INTRODUCTION, _LANGUAGE.replace("KEYS", keys), "## Actions\n", _overview()]
    parts += [_action(action) for action in action_registry().values()]
    parts.append(_managed())
    return "\n".join(parts)


def _overview() -> str:
    rows = [
        "| Action | Linux | Windows | macOS | Inputs | Outputs | What it does |",
        "|---|---|---|---|---|---|---|",
    ]
    for action in action_registry().values():
        marks = " | ".join("yes" if name in action.platforms else "" for name in ("linux", "windows", "darwin"))
        outputs = ", ".join(f"`{name}`" for name in action.outputs)
        name = f"[{action.name}](#{action.name.lower()})"
        rows.append(f"| {name} | {marks} | {action.shape} | {outputs} | {action.summary} |")
    return "\n".join(rows) + "\n"


def _action(action: Action) -> str:
    lines = [f"### {action.name}\n", f"{action.summary}\n"]
    if action.name == ASSERT:
        lines += [
            "```yaml\n- name: TwoFiles\n  action: Assert\n  inputs:\n    numberEquals: 2\n"
            "    value: '{{ build.Count.outputs.stdout }}'\n```\n",
        ]
        return "\n".join(lines)
    lines += ["| Input | Type | Required | Default | |", "|---|---|---|---|---|"]
    required = action.schema.get("required", ())
    for name, schema in action.schema["properties"].items():
        given = "yes" if name in required else ""
        default = f"`{_format(schema['default'])}`" if "default" in schema else ""
        lines.append(f"| `{name}` | {_type(schema)} | {given} | {default} | {_description(schema)} |")
    for group in action.schema.get("x-exclusive", ()):
        lines.append("\nExactly one of " + " and ".join(f"`{name}`" for name in group) + " is needed.")
    return "\n".join(lines) + "\n"


def _type(schema: Mapping[str, Any]) -> str:
    kind = schema["type"]
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        return f"list of {schema['items']['type']}s"
    return str(kind)


def _description(schema: Mapping[str, Any]) -> str:
    text = str(schema["description"])
    if "enum" in schema:
        text += " One of " + ", ".join(f"`{choice}`" for choice in schema["enum"]) + "."
    return text.replace("|", "\\|")


def _format(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) or '""'


def _managed() -> str:
    rows = ["## Managed components\n", "Owned by `aws` in ARNs.\n", "| Name | Version | |", "|---|---|---|"]
    rows += [f"| `{item.name}` | {item.version} | {item.description} |" for item in managed_components()]
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.stdout.write(reference_page())
