"""Reboot (spec/components.md 9, 10.23)."""

from __future__ import annotations

from typing import Final

from imagesmith.components.actions.base import (
    Action,
    ActionContext,
    ActionFailed,
    ActionResult,
    Entry,
)
from imagesmith.components.schema import inputs

_LONGEST_WAIT: Final = 3600
"""Seconds of one wait; a single wait cannot be as long as a document may ask for."""


def actions() -> tuple[Action, ...]:
    return (
        Action(
            "Reboot",
            "Restarts the instance; the next step follows.",
            inputs(
                {
                    "delaySeconds": {
                        "type": "integer",
                        "minimum": 0,
                        "default": 0,
                        "description": "Seconds to wait before.",
                    }
                }
            ),
            reboot,
            platforms=frozenset({"linux", "windows"}),
            inputs_required=False,
        ),
    )


def reboot(context: ActionContext, entries: list[Entry]) -> ActionResult:
    """Wait, then ask the runner for a restart. The step's time limit has no effect (10.23)."""
    delay = entries[0]["delaySeconds"]
    if context.instance.kind == "container":
        raise ActionFailed("a container cannot restart; run this component on a machine")
    while delay > 0 and not context.cancellation.requested:
        context.cancellation.wait(min(delay, _LONGEST_WAIT))
        delay -= _LONGEST_WAIT
    context.cancellation.check()
    return ActionResult(reboot="next")
