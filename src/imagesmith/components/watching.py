"""What of an earlier run still holds after its documents were edited: for reruns from the last good step.

A step still holds when it and everything before it is unchanged: the steps that ran before, the parameters and
constants of its document, and the values given. Comments, places and the order of keys do not count.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from imagesmith.components.journal import Entry, MemoryJournal
from imagesmith.components.model import ComponentDocument
from imagesmith.documents.nodes import ListNode, MapNode, Node, ScalarNode, to_data
from imagesmith.documents.yaml import load_yaml
from imagesmith.values.names import canonical_json


@dataclass(frozen=True)
class PlannedStep:
    """One step in the order of a run. `key` is its place in the journal, `content` what it depends on."""

    key: str
    name: str
    content: str


class WatchJournal(MemoryJournal):
    """A journal that keeps the entries of a finished run."""

    def __init__(self) -> None:
        super().__init__()
        self.finished: list[Entry] = []

    def clear(self) -> None:
        self.finished = list(self.entries) or self.finished
        super().clear()


def plan(
    texts: Sequence[str],
    documents: Sequence[ComponentDocument],
    *,
    phases: Collection[str] | None,
    parameters: Mapping[str, str],
) -> list[PlannedStep]:
    """The steps of a run in their order."""
    planned: list[PlannedStep] = []
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
                planned.append(PlannedStep(f"{index}/{phase.name}/{step.name}", step.name, content))
    return planned


def unchanged(before: Sequence[PlannedStep], after: Sequence[PlannedStep]) -> int:
    """How many steps at the beginning are the same."""
    count = 0
    for old, new in zip(before, after, strict=False):
        if old != new:
            break
        count += 1
    return count


def kept_entries(finished: Sequence[Entry], planned: Sequence[PlannedStep]) -> list[Entry]:
    """The journal entries of steps that still hold, without the first line of the journal."""
    keys = {step.key for step in planned}
    return [entry for entry in finished if str(entry.get("at", "")).partition(">")[0] in keys]


def _mappings(node: Node | None) -> list[MapNode]:
    return [item for item in node.items if isinstance(item, MapNode)] if isinstance(node, ListNode) else []


def _data(node: Node | None) -> object:
    return None if node is None or (isinstance(node, ScalarNode) and node.is_null) else to_data(node)
