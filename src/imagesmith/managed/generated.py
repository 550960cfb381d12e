"""Managed components that are rows of a table instead of documents: the document of a row is written here.

components/packages.toml      install packages of the distribution, and run the program that they bring
components/unavailable.toml   fail with a sentence, because the service's component cannot work here
"""

from __future__ import annotations

import json
import shlex
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any, Final

GENERATED_VERSION: Final = "1.0.0"

_INSTALLERS: Final = {
    "apt": (
        "apt-get",
        "export DEBIAN_FRONTEND=noninteractive; apt-get update && apt-get install -y --no-install-recommends",
    ),
    "dnf": ("dnf", "dnf install -y"),
}


def generated_components() -> Iterator[tuple[str, str, str]]:
    """Name, platform and document of each row."""
    for name, entry in _rows("packages.toml"):
        yield name, "Linux", _document(name, entry["description"], "build", [_install(entry), _check(entry)])
    for name, entry in _rows("unavailable.toml"):
        platform = entry.get("platform", "Linux")
        description = f"Cannot work here: {entry['reason']}."
        yield name, platform, _document(name, description, entry.get("phase", "build"), [_failure(entry, platform)])


def _rows(file: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    text = resources.files("imagesmith.managed").joinpath("components", file).read_text(encoding="utf-8")
    yield from tomllib.loads(text).items()


def _document(name: str, description: str, phase: str, steps: Sequence[Mapping[str, Any]]) -> str:
    """A component document; JSON is YAML."""
    document = {
        "name": name,
        "description": description,
        "schemaVersion": "1.0",
        "phases": [{"name": phase, "steps": steps}],
    }
    return json.dumps(document, indent=2) + "\n"


def _install(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    branches = [
        f"command -v {program} >/dev/null && {{ {install} {shlex.join(entry[key])}; exit; }}"
        for key, (program, install) in _INSTALLERS.items()
        if key in entry
    ]
    managers = " and ".join(_INSTALLERS[key][0] for key in _INSTALLERS if key in entry)
    missing = f"{managers} are not here" if " and " in managers else f"{managers} is not here"
    return {
        "name": "Install",
        "action": "ExecuteBash",
        "maxAttempts": 3,
        "timeoutSeconds": 1800,
        "inputs": {"commands": [*branches, *_fail(missing)]},
    }


def _check(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "name": "Runs",
        "action": "ExecuteBinary",
        "inputs": {"path": entry["program"], "arguments": entry["arguments"]},
    }


def _failure(entry: Mapping[str, Any], platform: str) -> Mapping[str, Any]:
    action = "ExecutePowerShell" if platform == "Windows" else "ExecuteBash"
    return {"name": "NotHere", "action": action, "inputs": {"commands": list(_fail(entry["reason"]))}}


def _fail(reason: str) -> tuple[str, str]:
    """Shell lines that fail with a reason."""
    return f"echo {shlex.quote(json.dumps({'failureMessage': reason}))}", "exit 1"
