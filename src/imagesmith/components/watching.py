"""The part of an earlier run that is still valid after edits of its documents: for reruns from the last good step.

A step is still valid when it and everything before it is unchanged: the earlier steps, the parameters and constants
of its document, and the parameter values. Comments, positions and the order of keys do not count.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from imagesmith.components.journal import JournalEntry, MemoryJournal
from imagesmith.components.model import ComponentDocument
from imagesmith.documents.nodes import ListNode, MapNode, Node, ScalarNode, to_data
from imagesmith.documents.yaml import load_yaml
from imagesmith.values.names import canonical_json


@dataclass(frozen=True)
class WatchedStep:
    """One step in the order of a run. `key` is its key in the journal, `content` its dependencies."""

    key: str
    name: str
    content: str


class WatchJournal(MemoryJournal):
    """A journal that keeps the entries of a finished run."""

    def __init__(self) -> None:
        super().__init__()
        self.finished: list[JournalEntry] = []

    def clear(self) -> None:
        self.finished = list(self.entries) or self.finished
        super().clear()


def plan(
    texts: Sequence[str],
    documents: Sequence[ComponentDocument],
    *,
    phases: Collection[str] | None,
    parameters: Mapping[str, str],
) -> list[WatchedStep]:
    """The steps of a run in their order."""
    planned: list[WatchedStep] = []
    for index, (text, document) in enumerate(zip(texts, documents, strict=True)):
        root = load_yaml(text).root
        assert isinstance(root, MapNode)
        head = [_data(root.get(key)) for key in ("parameters", "constants", "disableLogging")]
        for phase, phase_node in zip(document.phases, _mappings(root.get("phases")), strict=True):
            if phases is not None and phase.name not in phases:
                continue
            silent = _data(phase_node.get("disableLogging"))
            for step, node in zip(phase.steps, _mappings(phase_node.get("steps")), strict=True):
                content = canonical_json([head, dict(parameters), silent, to_data(node)])
                planned.append(WatchedStep(f"{index}/{phase.name}/{step.name}", step.name, content))
    return planned


def unchanged(before: Sequence[WatchedStep], after: Sequence[WatchedStep]) -> int:
    """The number of equal steps at the beginning."""
    count = 0
    for old, new in zip(before, after, strict=False):
        if old != new:
            break
        count += 1
    return count


def valid_entries(finished: Sequence[JournalEntry], planned: Sequence[WatchedStep]) -> list[JournalEntry]:
    """The journal entries of still valid steps, without the first line of the journal."""
    keys = {step.key for step in planned}
    return [entry for entry in finished if str(entry.get("at", "")).partition(">")[0] in keys]


def _mappings(node: Node | None) -> list[MapNode]:
    return [item for item in node.items if isinstance(item, MapNode)] if isinstance(node, ListNode) else []


def _data(node: Node | None) -> object:
    return None if node is None or (isinstance(node, ScalarNode) and node.is_null) else to_data(node)
