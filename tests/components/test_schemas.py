"""The schema of every action: real JSON Schema, and our reading of it agrees with a validator's."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from imagesmith.components.actions.registry import action_registry
from imagesmith.components.schema import ActionInputError, convert

NAMES = [name for name in action_registry() if name != "Assert"]


def test_all_modules_are_there() -> None:
    """The thirty modules of the language are known, with their platforms and shapes."""
    registry = action_registry()
    assert len(registry) == 30
    assert {name for name, action in registry.items() if "linux" not in action.platforms} == {
        "ExecutePowerShell",
        "InstallMSI",
        "UninstallMSI",
        "SetRegistry",
    }
    assert {name for name, action in registry.items() if not action.inputs_required} == {"Reboot", "UpdateOS"}
    lists = {name for name, action in registry.items() if action.shape == "list"}
    assert len(lists) == 21 and {"SetRegistry", "WebDownload", "ReadFile"} <= lists


@pytest.mark.parametrize("name", list(action_registry()))
def test_schemas_are_valid(name: str) -> None:
    """Each schema satisfies JSON Schema's own schema, and every input is described."""
    schema = action_registry()[name].schema
    Draft202012Validator.check_schema(dict(schema))
    assert json.dumps(schema)
    assert all(inner["description"] for inner in schema["properties"].values())


TEXTS = st.sampled_from(
    ["", "a", "x/y", "true", "False", "12", "-1", "0755", "utf-8", "SHA256", "http://h/", "s3://b/k"]
)
VALUES = st.one_of(TEXTS, st.lists(TEXTS, max_size=2), st.dictionaries(TEXTS, TEXTS, max_size=2))


def typed(schema: Any, value: Any) -> Any:
    """The value with texts turned into the JSON types that the schema asks for, when they read as one."""
    if schema.get("type") == "object" and isinstance(value, dict):
        return {key: typed(schema.get("properties", {}).get(key, {}), item) for key, item in value.items()}
    if schema.get("type") == "boolean" and isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if schema.get("type") == "integer" and isinstance(value, str) and value.lstrip("-").isdigit():
        return int(value)
    return value


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_agrees_with_a_validator(data: st.DataObject) -> None:
    """What we accept, a JSON Schema validator accepts, and the other way round."""
    action = action_registry()[data.draw(st.sampled_from(NAMES))]
    properties = action.schema["properties"]
    given_inputs = {
        name: data.draw(VALUES)
        for name in properties
        if name in action.schema["required"] or data.draw(st.booleans())
    }
    if any("x-ignore-case" in properties[name] for name in given_inputs):
        return
    try:
        convert(action.schema, given_inputs)
        accepted = True
    except ActionInputError:
        accepted = False
    plain = {key: value for key, value in action.schema.items() if key != "x-exclusive"}
    valid = Draft202012Validator(plain).is_valid(typed(plain, given_inputs))
    exclusive = all(
        sum(name in given_inputs for name in group) == 1 for group in action.schema.get("x-exclusive", ())
    )
    assert accepted == (valid and exclusive), given_inputs


def test_windows_actions() -> None:
    """Actions of Windows are checked in full on every computer."""
    from imagesmith.components.grammar import parse_component

    def codes(action: str, inputs: Any) -> list[str]:
        text = json.dumps(
            {
                "schemaVersion": "1.0",
                "phases": [{"name": "build", "steps": [{"name": "One", "action": action, "inputs": inputs}]}],
            }
        )
        return [problem.code for problem in parse_component(text, platform="Windows").problems]

    assert codes("ExecutePowerShell", {"commands": ["dir"]}) == []
    assert codes("ExecutePowerShell", {"commands": ["dir"], "file": "x.ps1"}) == ["wrong-keys"]
    assert codes("InstallMSI", {"path": "a.msi", "properties": {"KEY": "v"}, "logOptions": "*VX"}) == []
    assert codes("InstallMSI", {"path": "a.msi", "properties": {"Reboot": "v"}}) == ["wrong-value"]
    assert codes("UninstallMSI", {"path": "a.msi", "reboot": "Later"}) == ["wrong-value"]
    assert codes("UninstallMSI", {"path": "a.msi", "logOptions": "Z"}) == ["wrong-value"]
    registry = {"path": "HKLM:\\Software\\X", "name": "n", "value": "1", "type": "DWORD"}
    assert codes("SetRegistry", [registry]) == []
    assert codes("SetRegistry", [{**registry, "value": ["a", "b"], "type": "MULTI_SZ"}]) == []
    assert codes("SetRegistry", [{**registry, "value": ["a"]}]) == ["wrong-type"]
    assert codes("SetRegistry", [{**registry, "path": "HKXX:\\a"}]) == ["wrong-value"]
    assert codes("SetRegistry", [{**registry, "type": "LINK"}]) == ["wrong-value"]
