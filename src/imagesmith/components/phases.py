"""The phases that a build runs, and hints about the others (spec/components.md 2.9)."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from imagesmith.components.model import ComponentDocument, Phase
from imagesmith.documents.fields import close_word

STAGE_PHASES: Final = ("build", "validate", "test")
HOST_PHASE: Final = "container-host-test"
"""Would run beside the container, on the machine that built it: outside any sandbox (docs/security.md)."""

_MEANT: Final = MappingProxyType(
    {
        "setup": "build", "install": "build", "configure": "build", "prepare": "build", "provision": "build",
        "verify": "validate", "verification": "validate", "check": "validate", "tests": "test", "testing": "test",
        "smoke-test": "test", "container-test": "test",
    }
)  # fmt: skip


def idle_phases(document: ComponentDocument) -> tuple[Phase, ...]:
    """The phases that no build runs."""
    return tuple(phase for phase in document.phases if phase.name not in STAGE_PHASES)


def idle_reason(name: str) -> str:
    if name == HOST_PHASE:
        return f"the phase '{name}' is not supported: it would run outside of the sandbox, so no build runs it"
    return f"no build runs the phase '{name}'; builds run {', '.join(STAGE_PHASES[:-1])} and {STAGE_PHASES[-1]}"


def idle_hint(name: str) -> str:
    """A hint about a phase that no build runs."""
    if name == HOST_PHASE:
        return "move its steps to the phase 'test', which runs inside a container of the finished image"
    meant = close_word(name, STAGE_PHASES) or _MEANT.get(name.lower().replace("_", "-"))
    if meant:
        return f"did you mean '{meant}'?"
    if name.lower().replace("-", "").replace("_", "") in ("cleanup", "finish", "teardown"):
        return "clean up in the last step of 'build'"
    return "a phase of another name runs only when ExecuteDocument names it"
