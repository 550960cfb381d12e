"""Checks of the components of a recipe: their phases run, and they get the parameters that they declare
(spec/components.md 13.2).

The documents were checked when they were created; they are read again here, because the check of a value or of a
phase needs more than the members that GetComponent shows.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from imagesmith.components.declarations import ComponentParameterError, given_values
from imagesmith.components.model import ComponentDocument
from imagesmith.components.phases import HOST_PHASE, idle_hint, idle_phases, idle_reason
from imagesmith.resources.call import Call
from imagesmith.resources.errors import invalid_combination, quota_exceeded
from imagesmith.store.records import Record

Given = Sequence[Mapping[str, Any]]


def component_document(record: Record) -> ComponentDocument | None:
    """The document of a stored component; None when a version with other rules stored it."""
    return _parsed(record.document["data"], record.document.get("platform", "Linux"))


def check_phases(record: Record, path: str, *, container: bool) -> None:
    """Refuse a component with a phase that no build runs. Raises ApiError.

    In an image recipe the service does not run `container-host-test` either: one component may serve both kinds.
    """
    document = component_document(record)
    for phase in idle_phases(document) if document is not None else ():
        if phase.name == HOST_PHASE and not container:
            continue
        reason, hint = idle_reason(phase.name), idle_hint(phase.name)
        raise invalid_combination(f"{path}.componentArn", f"In {record.arn} {reason} (hint: {hint}).")


def check_parameters(call: Call, record: Record, given: Given, path: str) -> None:
    """Check that the document allows every value, and that no required parameter is missing. Raises ApiError."""
    declared = {item["name"]: item for item in record.document.get("parameters", ())}
    unknown = [item["name"] for item in given if item["name"] not in declared]
    if unknown:
        raise invalid_combination(
            f"{path}.parameters",
            f"The following parameters are not defined in the provided component: {', '.join(unknown)}",
        )
    names = [item["name"] for item in given]
    missing = [name for name, item in declared.items() if name not in names and "defaultValue" not in item]
    if missing:
        raise invalid_combination(
            f"{path}.parameters",
            f"The following parameters have no default value and need one: {', '.join(missing)}",
        )
    limit = call.settings.quotas.parameter_value_characters
    for item in given:
        if any(len(value) > limit for value in item.get("value", ())):
            raise quota_exceeded(f"characters per value of the parameter {item['name']}", limit)
    document = component_document(record)
    if document is not None:
        try:
            given_values(document, [(item["name"], value) for item in given for value in _single_value(item)])
        except ComponentParameterError as error:
            raise invalid_combination(f"{path}.parameters", f"{error.sentence}.") from error


def _single_value(item: Mapping[str, Any]) -> Sequence[str]:
    """The value of a parameter; its type is string, so a list of two is not a valid value."""
    values: Sequence[str] = item.get("value", ())
    if len(values) != 1:
        name = item["name"]
        raise ComponentParameterError(f"the parameter '{name}' takes one string, {len(values)} are given")
    return values


@functools.lru_cache(maxsize=128)
def _parsed(text: str, platform: str) -> ComponentDocument | None:
    """Many recipes name the same few components, and reading one takes milliseconds."""
    from imagesmith.components.grammar import parse_component  # late: cli/startup.py

    return parse_component(text, platform=platform).document
