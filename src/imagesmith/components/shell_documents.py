"""A shell script as a component document with one step (spec/api.md 4.10).

The script runs byte for byte: a text in it that looks like a reference of this language, as in a template of Go or
Jinja, is part of the script. Such a script becomes a constant, whose references are never replaced.
"""

from __future__ import annotations

import re
from typing import Any, Final, Literal

import yaml  # type: ignore[import-untyped]

from imagesmith.documents.references import find_references

_CONSTANT: Final = "Script"
_OTHER_BREAKS: Final = "\x85\u2028\u2029"
_SHELLS: Final = frozenset({"sh", "bash", "dash"})
_INTERPRETER: Final = re.compile(r"#![ \t]*(?P<path>[^ \t\r\n]+)(?:[ \t]+(?:-S[ \t]+)?(?P<argument>[^ \t\r\n]+))?")


class ScriptRefused(ValueError):
    """A script that the step would not run as it is written; the message says why."""


class _Text(str):
    """A string in the literal style of YAML."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Writes scripts as literal blocks, so that people can read them."""


def _literal(dumper: Any, text: _Text) -> Any:
    # PyYAML writes a text with quotes where a block would change it, except for these line breaks of YAML
    style = '"' if any(mark in text for mark in _OTHER_BREAKS) else "|"
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style=style)


_Dumper.add_representer(_Text, _literal)


def shell_document(script: str, *, platform: str, type: Literal["BUILD", "TEST"], description: str = "") -> str:
    """A document that runs `script` in its phase `build` or `test`. `platform` is that of the API.

    Raises ScriptRefused.
    """
    windows = platform == "Windows"
    if not script.strip():
        raise ScriptRefused("the script is empty")
    if not windows:
        _check_interpreter(script)
    constants: dict[str, Any] = {}
    command: str = _Text(script)
    if any(find_references(script)):
        constants = {"constants": [{_CONSTANT: {"type": "string", "value": _Text(script)}}]}
        command = f"{{{{ {_CONSTANT} }}}}"
    step = {
        "name": "RunScript",
        "action": "ExecutePowerShell" if windows else "ExecuteBash",
        "inputs": {"commands": [command]},
    }
    document = {
        **({"description": description} if description else {}),
        "schemaVersion": 1.0,
        **constants,
        "phases": [{"name": type.lower(), "steps": [step]}],
    }
    return str(yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**6))


def _check_interpreter(script: str) -> None:
    """Refuse a script of another language: the step runs every script in bash."""
    named = _INTERPRETER.match(script)
    if named is None:
        return
    program = named["path"].rpartition("/")[2]
    if program == "env" and named["argument"]:
        program = named["argument"].rpartition("/")[2]
    if program not in _SHELLS:
        raise ScriptRefused(
            f"its first line names {program[:80]}, and a script of format SHELL runs in bash; create a component "
            "with a document that runs it"
        )
