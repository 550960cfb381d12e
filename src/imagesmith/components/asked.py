"""The components that a document will run by their ARNs, as far as known before the run
(spec/components.md 10.6).

The ARN may hold references: parameters, constants and the account and Region are known; outputs of steps, the
environment and stored parameters are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from imagesmith.components.declarations import variable_values
from imagesmith.components.expressions import ContextRef, ParameterRef, parse_reference
from imagesmith.components.model import ComponentDocument, ComponentStep
from imagesmith.documents.references import replace_references

_ACTION: Final = "ExecuteDocument"


class _Unknown(Exception):
    """A reference whose value is only known in the run."""


@dataclass(frozen=True)
class AskedComponent:
    """One ExecuteDocument step that names an ARN; `arn` is None when it is known only in the run."""

    phase: str
    step: str
    arn: str | None
    parameters: Mapping[str, str]
    """Values for the parameters of that component, as far as they are known."""
    unknown: frozenset[str]
    """Its parameters whose values are only known in the run."""


def asked_components(
    document: ComponentDocument,
    given: Mapping[str, str],
    *,
    account: str,
    region: str,
    unknown: frozenset[str] = frozenset(),
) -> Iterator[AskedComponent]:
    """Every step that runs a component of the store, in order. Raises ParameterError."""
    values = variable_values(document, given)
    context = {"accountId": account, "region": region, "osPlatform": document.platform}

    def look_up(body: str) -> str | None:
        reference = parse_reference(body)
        if reference is None:
            return None
        if isinstance(reference, ParameterRef) and reference.name in values and reference.name not in unknown:
            return values[reference.name]
        if isinstance(reference, ContextRef) and reference.key in context:
            return context[reference.key]
        raise _Unknown

    for phase in document.phases:
        for step in phase.steps:
            asked = _document_of(step)
            arn: str | None = None
            try:
                arn = replace_references(asked, look_up)
            except _Unknown:
                if not asked.startswith(("arn:", "{{")):
                    continue
            if arn is None or arn.startswith("arn:"):
                yield AskedComponent(phase.name, step.name, arn, *_parameters(step, look_up))


def _document_of(step: ComponentStep) -> str:
    entry = step.entries[0] if step.action == _ACTION and step.entries else {}
    asked = entry.get("document", "") if isinstance(entry, Mapping) else ""
    return asked if isinstance(asked, str) else ""


def _parameters(step: ComponentStep, look_up: Callable[[str], str | None]) -> tuple[dict[str, str], frozenset[str]]:
    entry = step.entries[0]
    found: dict[str, str] = {}
    unknown: set[str] = set()
    for item in entry.get("parameters", ()) if isinstance(entry, Mapping) else ():
        if not isinstance(item, Mapping):
            continue
        name = str(item.get("name", ""))
        try:
            found[name] = replace_references(str(item.get("value", "")), look_up)
        except _Unknown:
            unknown.add(name)
    return found, frozenset(unknown)
