"""Internal members of a resource: stored with its document, never part of an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from imagesmith.values.api import ApiDocument

_ANCHOR: Final = "_scheduleAnchor"
_VERSION: Final = "_scheduleVersion"
_OS_VERSION: Final = "_osVersion"
_NAMES: Final = frozenset({_ANCHOR, _VERSION, _OS_VERSION})


@dataclass(frozen=True, kw_only=True)
class InternalMembers:
    """Internal members of pipelines and recipes. Texts are empty, and the number is 0, where they do not apply."""

    schedule_anchor: str = ""
    """The moment from which a rate counts: when its text was set (spec/pipelines.md 2.3)."""
    schedule_version: int = 0
    """Grows with every update, so that a tick that was armed before the update is recognised."""
    os_version: str = ""
    """The OS version that a container recipe states for a parent image that does not name one."""

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> InternalMembers:
        if _NAMES.isdisjoint(stored):
            return NO_INTERNAL_MEMBERS
        return cls(
            schedule_anchor=stored.get(_ANCHOR, ""),
            schedule_version=int(stored.get(_VERSION, 0)),
            os_version=stored.get(_OS_VERSION, ""),
        )

    def to_json(self) -> Mapping[str, Any]:
        members: Mapping[str, str | int] = {
            _ANCHOR: self.schedule_anchor, _VERSION: self.schedule_version, _OS_VERSION: self.os_version
        }  # fmt: skip
        return {name: value for name, value in members.items() if value}


NO_INTERNAL_MEMBERS: Final = InternalMembers()


def without_internal_members(stored: ApiDocument) -> ApiDocument:
    """The document without internal members."""
    if _NAMES.isdisjoint(stored):
        return stored
    return {name: value for name, value in stored.items() if name not in _NAMES}
