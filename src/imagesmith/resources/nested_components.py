"""The components that a recipe's component runs by ARN: all of them are in the plan (spec/components.md 10.6).

An ARN that is only known in the run is resolved there; every other ARN is resolved, checked and kept with the plan,
so that a run obeys one snapshot, its provenance names what ran, and a cached disk has a complete key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from imagesmith.components.asked import AskedComponent, asked_components
from imagesmith.components.declarations import ComponentParameterError
from imagesmith.components.model import MAX_NESTED
from imagesmith.recipes.plan import PlannedDocument
from imagesmith.resources.call import Call
from imagesmith.resources.component_checks import component_document
from imagesmith.resources.errors import ApiError, invalid_combination
from imagesmith.resources.resolution import resolve
from imagesmith.store.records import Record

MAX_DOCUMENTS: Final = 50
"""Most different components that one component may run, all levels together."""


def nested_documents(
    call: Call, record: Record, parameters: Mapping[str, str], path: str, *, refused: tuple[str, ...]
) -> dict[str, PlannedDocument]:
    """Every component that a component runs, at all levels, by the ARN of the step. Raises ApiError.

    Components in a state of `refused` are not allowed. ARNs that are only known in the run are left out.
    """
    found: dict[str, PlannedDocument] = {}
    _Collector(call, path, refused, found).collect(record, parameters, frozenset(), (record.arn,))
    return found


@dataclass(frozen=True)
class _Collector:
    """Collects the components that documents name, each once."""

    call: Call
    path: str
    refused: tuple[str, ...]
    found: dict[str, PlannedDocument]

    def collect(
        self, record: Record, parameters: Mapping[str, str], unknown: frozenset[str], chain: tuple[str, ...]
    ) -> None:
        document = component_document(record)
        if document is None:
            return
        account, region = self.call.account, self.call.region
        try:
            asked = list(asked_components(document, parameters, account=account, region=region, unknown=unknown))
        except ComponentParameterError as error:
            raise self._refusal(f"{record.arn} is run with a value that it does not allow: {error}.") from error
        for item in asked:
            if item.arn is not None:
                label = f"Step '{item.step}' in phase '{item.phase}' of {record.arn} runs {item.arn[:400]}"
                self._add(item, item.arn, label, chain)

    def _add(self, item: AskedComponent, arn: str, label: str, chain: tuple[str, ...]) -> None:
        nested = _resolved(self.call, arn, self.path, label)
        if nested.arn in chain:
            raise self._refusal(f"{label}, which runs itself: {' > '.join((*chain, nested.arn))}.")
        if len(chain) > MAX_NESTED:
            raise self._refusal(f"{label}: components may be nested {MAX_NESTED} levels deep.")
        if nested.status in self.refused:
            raise self._refusal(f"{label}, which is {nested.status}.")
        documents = self.found
        known = arn in documents
        documents[arn] = PlannedDocument(arn, nested.arn, nested.document["data"])
        if len(documents) > MAX_DOCUMENTS:
            raise self._refusal(f"{label}: a component may run {MAX_DOCUMENTS} others at most.")
        if not known or item.parameters or item.unknown:
            self.collect(nested, item.parameters, item.unknown, (*chain, nested.arn))

    def _refusal(self, detail: str) -> ApiError:
        return invalid_combination(self.path, detail)


def _resolved(call: Call, arn: str, path: str, label: str) -> Record:
    try:
        return resolve(call, arn, path=path, kind="component")
    except ApiError as error:
        if error.code == "AccessDeniedException":
            raise ApiError(error.code, f"{label}: {error.message}") from error
        raise invalid_combination(path, f"{label}, which cannot be used: {error.message}") from error
