"""Resolves a version or a wildcard to its first build in a resolvable state (spec/api.md 3.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from imagesmith.store.records import Record
from imagesmith.values.states import WITHDRAWN, ImageStatus
from imagesmith.values.version import VersionPattern


def first_usable(candidates: Iterable[Record], wanted: VersionPattern, *, exact: bool) -> Record | None:
    """The first of the candidates (highest first) that matches and has a resolvable state.

    A component version without build resolves to its highest build whatever its state; with a wildcard only
    active ones count. Images resolve only when AVAILABLE.
    """
    for record in candidates:
        if wanted.matches(record.version) and _USABLE.get(record.kind, _always)(record, exact):
            return record
    return None


def _always(_record: Record, _exact: bool) -> bool:
    return True


def _component_usable(record: Record, exact: bool) -> bool:
    return exact or record.status not in WITHDRAWN


def _image_usable(record: Record, _exact: bool) -> bool:
    return record.status == ImageStatus.AVAILABLE


_USABLE: dict[str, Callable[[Record, bool], bool]] = {"component": _component_usable, "image": _image_usable}
