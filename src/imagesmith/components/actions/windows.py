"""Actions of Windows: checked in full, run by Windows machines only (spec/components.md 10.5, 10.22, 10.24).

This version has no Windows instances, so running one is refused in one sentence.
"""

from __future__ import annotations

import re
from typing import Final

from imagesmith.components.actions.base import Action, ActionContext, ActionFailed, ActionResult, Run, TypedInputs
from imagesmith.components.schema import Schema, flag, inputs, text, texts
from imagesmith.documents.fields import suggestion
from imagesmith.documents.nodes import ListNode, MapNode, Node, ScalarNode
from imagesmith.documents.references import find_references
from imagesmith.values.diagnostics import Problem

_WINDOWS: Final = frozenset({"windows"})
_FIXED_PROPERTIES: Final = ("REBOOT", "REINSTALLMODE", "REINSTALL")
_HIVES: Final = (
    *("HKEY_CLASSES_ROOT", "HKEY_USERS", "HKEY_LOCAL_MACHINE", "HKEY_CURRENT_CONFIG", "HKEY_CURRENT_USER"),
    *("HKCR:", "HKU:", "HKLM:", "HKCC:", "HKCU:"),
)
_REGISTRY_TYPES: Final = ("BINARY", "DWORD", "QWORD", "SZ", "EXPAND_SZ", "MULTI_SZ")


def actions() -> tuple[Action, ...]:
    return (
        Action(
            "ExecutePowerShell",
            "Runs its commands as one PowerShell script, or a script file.",
            inputs(
                {
                    "commands": texts("Lines of PowerShell, joined into one script.", minItems=1),
                    "file": text("A .ps1 file.", minLength=1),
                },
                exclusive=(("commands", "file"),),
            ),
            _refuse("ExecutePowerShell"),
            platforms=_WINDOWS,
            outputs=("stdout",),
        ),
        _msi("InstallMSI", "Installs an MSI package."),
        _msi("UninstallMSI", "Removes an MSI package."),
        Action(
            "SetRegistry",
            "Sets a value of the registry.",
            inputs(
                {
                    "path": text("The key, with its hive.", minLength=1),
                    "name": text("The name of the value."),
                    "value": {
                        "type": ["string", "array"],
                        "items": {"type": "string"},
                        "description": "A string or number; a list for MULTI_SZ and BINARY.",
                    },
                    "type": text("The type of the value.", enum=list(_REGISTRY_TYPES)),
                },
                required=("path", "name", "value", "type"),
            ),
            _refuse("SetRegistry"),
            shape="list",
            platforms=_WINDOWS,
            check=_check_registry,
        ),
    )


def _msi(name: str, summary: str) -> Action:
    properties: Schema = {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "description": "Properties of the package, passed unchanged.",
    }
    return Action(
        name,
        summary,
        inputs(
            {
                "path": text("A path, an s3:// address or a URL.", minLength=1),
                "reboot": text("Whether to restart afterwards.", default="Allow", enum=["Allow", "Force", "Skip"]),
                "logOptions": text(
                    "Letters for msiexec /L.",
                    default="*VX",
                    pattern=r"^[iwearucmopvxIWEARUCMOPVX+!*]+$",
                    expected="letters of i w e a r u c m o p v x + ! *",
                ),
                "logFile": text("Log file of msiexec; without it there is no log."),
                "properties": properties,
                "ignoreAuthenticodeSignatureErrors": flag("Run despite a bad signature.", default=False),
                "allowUnsignedInstaller": flag("Run without a signature.", default=False),
            },
            required=("path",),
        ),
        _refuse(name),
        platforms=_WINDOWS,
        outputs=("logFile", "msiExitCode", "stdout"),
        check=_check_properties,
    )


def _refuse(name: str) -> Run:
    def run(context: ActionContext, _entries: list[TypedInputs]) -> ActionResult:
        raise ActionFailed(f"{name} runs on Windows machines only; this instance is a {context.instance.kind}")

    return run


def _check_properties(node: Node, problems: list[Problem], subject: str) -> None:
    properties = node.get("properties") if isinstance(node, MapNode) else None
    for key, _ in properties.entries if isinstance(properties, MapNode) else ():
        if key.text.upper() in _FIXED_PROPERTIES:
            message = f"{subject} the property '{key.text}' is set by the action itself"
            problems.append(Problem("wrong-value", message, key.position, "leave it out"))


def _check_registry(node: Node, problems: list[Problem], subject: str) -> None:
    if not isinstance(node, MapNode):
        return
    path, kind, value = node.get("path"), node.get("type"), node.get("value")
    if isinstance(path, ScalarNode) and next(find_references(path.text), None) is None:
        hive = re.split(r"[\\/]", path.text, maxsplit=1)[0]
        if hive.upper() not in _HIVES or not re.search(r"[\\/].", path.text):
            message = f"{subject} the registry path '{path.text[:80]}' must begin with a hive and a separator"
            hint = suggestion(hive, _HIVES) or "such as HKLM:\\"
            problems.append(Problem("wrong-value", message, path.position, hint))
    listed = isinstance(kind, ScalarNode) and kind.text in ("MULTI_SZ", "BINARY")
    if isinstance(value, ListNode) and isinstance(kind, ScalarNode) and not listed:
        message = f"{subject} a list is a value of MULTI_SZ and BINARY only, not of {kind.text[:20]}"
        problems.append(Problem("wrong-type", message, value.position))
