"""Reboot (spec/components.md 9, 10.23)."""

from __future__ import annotations

from typing import Final

from imagesmith.components.actions.base import (
    Action,
    ActionContext,
    ActionFailed,
    ActionResult,
    TypedInputs,
)
from imagesmith.components.schema import inputs

_LONGEST_WAIT: Final = 3600
"""Seconds of one wait; a document may request a delay that is too long for one wait."""


def actions() -> tuple[Action, ...]:
    return (
        Action(
            "Reboot",
            "Restarts the instance and continues with the next step.",
            inputs(
                {
                    "delaySeconds": {
                        "type": "integer",
                        "minimum": 0,
                        "default": 0,
                        "description": "Seconds to wait first.",
                    }
                }
            ),
            reboot,
            platforms=frozenset({"linux", "windows"}),
            inputs_required=False,
        ),
    )


def reboot(context: ActionContext, entries: list[TypedInputs]) -> ActionResult:
    """Wait, then request a restart. The step's time limit has no effect (spec/components.md 10.23)."""
    delay = entries[0]["delaySeconds"]
    if context.instance.kind == "container":
        raise ActionFailed("a container cannot restart; run this component on a machine")
    while delay > 0 and not context.cancellation.requested:
        context.cancellation.wait(min(delay, _LONGEST_WAIT))
        delay -= _LONGEST_WAIT
    context.cancellation.check()
    return ActionResult(reboot="next")
