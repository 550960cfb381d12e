"""ONBUILD triggers of images as instructions of the Dockerfile that names them. Pure.

`docker build` carries out the triggers of an image as the first instructions of every stage that is FROM it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from imagesmith.dockerfiles.model import Dockerfile, FromInstruction, Instruction
from imagesmith.dockerfiles.parser import parse_dockerfile
from imagesmith.dockerfiles.placeholders import has_placeholder
from imagesmith.values.diagnostics import errors_of

_NEVER = ("ONBUILD", "FROM", "MAINTAINER")
_SHOWN = 120


class TriggerError(ValueError):
    """A trigger that cannot be run: says which, and why."""


def with_triggers(
    dockerfile: Dockerfile, triggers_of: Callable[[int], Sequence[Instruction]]
) -> tuple[Dockerfile, frozenset[int]]:
    """The Dockerfile with triggers behind every FROM, and the numbers of the instructions that are triggers.

    `triggers_of` returns those of the FROM with a number.
    """
    found: list[Instruction] = []
    triggers: set[int] = set()
    for index, item in enumerate(dockerfile.instructions):
        found.append(item)
        if isinstance(item, FromInstruction):
            added = triggers_of(index)
            triggers |= set(range(len(found), len(found) + len(added)))
            found += added
    return replace(dockerfile, instructions=tuple(found)), frozenset(triggers)


def parse_trigger(trigger: str) -> Instruction:
    """A trigger as one instruction. Raises TriggerError when it is more, or none, or none that may be a trigger."""
    dockerfile = parse_dockerfile(trigger)
    problems = errors_of(dockerfile.problems)
    found = dockerfile.instructions
    reason = ""
    if problems:
        reason = problems[0].message
    elif len(found) != 1:
        reason = f"it contains {len(found)} instructions, and a trigger is one"
    elif found[0].name in _NEVER:
        reason = f"{found[0].name} cannot be a trigger"
    elif has_placeholder(trigger) or found[0].source.text.rstrip(" \t").endswith(dockerfile.directives.escape):
        reason = "it is not a whole instruction"
    elif "\n" in trigger.strip():
        # Docker and buildah keep the joined line; how several lines are read depends on the builder
        reason = "it has several lines, and images keep a trigger as one"
    if reason:
        raise TriggerError(f"the image has the trigger '{trigger[:_SHOWN]}', which cannot run: {reason}")
    return found[0]
