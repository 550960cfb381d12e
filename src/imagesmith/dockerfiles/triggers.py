"""ONBUILD triggers of a parent as lines of the Dockerfile template that names it. Pure.

`docker build` runs the triggers of an image as the first instructions of every stage that is FROM it. Written into
the template they are built like its own lines, in the sandbox, and images that they name are treated like its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from imagesmith.dockerfiles.model import FromInstruction, Instruction
from imagesmith.dockerfiles.parser import parse_dockerfile
from imagesmith.dockerfiles.placeholders import has_placeholder, is_parent
from imagesmith.dockerfiles.refusals import NO_CONTEXT
from imagesmith.dockerfiles.template import builder_text, check_template
from imagesmith.values.diagnostics import errors_of

_NEVER = ("ONBUILD", "FROM", "MAINTAINER")
_SHOWN = 120


class TriggerError(ValueError):
    """A trigger that cannot be run: says which, and why."""


def with_triggers(template: str, triggers: Sequence[str]) -> str:
    """The template with the triggers of its parent behind every FROM that names the parent. Raises TriggerError."""
    if not triggers:
        return template
    lines = [f"{builder_text(parse_trigger(trigger), chr(92))}\n" for trigger in triggers]
    dockerfile = parse_dockerfile(template)
    result: list[str] = []
    for item in dockerfile.instructions:
        result.append(f"{builder_text(item, dockerfile.directives.escape)}\n")
        if isinstance(item, FromInstruction) and is_parent(item.image.text):
            result += lines
    text = "".join(result)
    # a recipe that an older version stored may have problems of its own, which are not those of a trigger
    own = {(problem.code, problem.message) for problem in errors_of(check_template(template, has_components=False))}
    for problem in errors_of(check_template(text, has_components=False)):
        if problem.code == NO_CONTEXT or (problem.code, problem.message) in own:
            continue  # whoever wrote the trigger had a build context; the one of this build is empty
        raise TriggerError(f"a trigger of the image cannot run here: {problem.message}")
    return text


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
