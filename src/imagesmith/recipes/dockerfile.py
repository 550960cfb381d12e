"""Dockerfile templates: reading, checking, and cutting them at the place where components run (spec/api.md 6.2).

    FROM {{{ imagebuilder:parentImage }}}      \\
    {{{ imagebuilder:environments }}}           |  before: built by buildah, gives the image that
    ENV A=b                                    /   the component instance starts on
    {{{ imagebuilder:components }}}            --  components run in the instance; it is committed
    CMD ["x"]                                  --  after: built by buildah on the committed image

Only instruction boundaries and FROM, ARG, SHELL and `--from=` are understood here; buildah does the rest. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from imagesmith.recipes.references import Use, image_uses
from imagesmith.values.diagnostics import Position, Problem

_VARIABLE = re.compile(r"\{\{\{[ \t]*imagebuilder:([A-Za-z]+)[ \t]*\}\}\}")
_ESCAPE = re.compile(r"#[ \t]*escape[ \t]*=[ \t]*([\\`])[ \t]*", re.IGNORECASE)
_DIRECTIVE = re.compile(r"#[ \t]*[A-Za-z]+[ \t]*=.*")
_WORD = re.compile(r"[ \t]*([A-Za-z]+)(?=[ \t]|$)")
_HEREDOC = re.compile(r"(?:^|[ \t])[0-9]*<<-?[\"']?[A-Za-z_]")
_AS = re.compile(r"\s+as\s+(\S+)\s*$", re.IGNORECASE)
_FROM_FLAG = re.compile(r"--from=(\S+)")

PARENT, ENVIRONMENTS, COMPONENTS = "parentImage", "environments", "components"
_KNOWN = (PARENT, ENVIRONMENTS, COMPONENTS)
_ANY_PARENT = "registry.invalid/parent"


@dataclass(frozen=True)
class Instruction:
    """One instruction with its continuation lines, verbatim; `name` is upper case, or a variable's name."""

    name: str
    text: str
    line: int

    @property
    def stage_name(self) -> str:
        """The name that a FROM gives its stage."""
        found = _AS.search(self.text)
        return found.group(1).lower() if self.name == "FROM" and found else ""


@dataclass(frozen=True)
class DockerfileParts:
    """A template cut at its components variable; the texts still hold `{{{ imagebuilder:parentImage }}}`."""

    before: str
    """Dockerfile whose last stage is the image that components run on; empty when that is the parent itself."""
    after: str
    """Dockerfile that goes on from BASE; empty when nothing follows."""
    runs_components: bool

    BASE = "imagesmith-components-base"
    """Stands in `after` for the image that the components were committed to."""


def check_template(text: str, *, has_components: bool) -> list[Problem]:
    """Everything that is wrong with a template. `has_components`: the recipe lists some."""
    instructions, problems = _read(text)
    found = [item.name for item in instructions]
    froms = [item for item in instructions if item.name == "FROM"]
    if not froms:
        problems.append(Problem("no-from", "the Dockerfile template has no FROM instruction"))
    if not any(PARENT in _VARIABLE.findall(item.text) for item in froms):
        problems.append(
            Problem("no-parent", "no FROM uses the variable {{{ imagebuilder:parentImage }}}, which is required")
        )
    if has_components and ENVIRONMENTS not in found:
        problems.append(
            Problem(
                "no-environments",
                "the recipe lists components, so the variable {{{ imagebuilder:environments }}} is required",
            )
        )
    for name in (ENVIRONMENTS, COMPONENTS):
        places = [item for item in instructions if item.name == name]
        for again in places[1:]:
            problems.append(_at(again, "variable-twice", f"the variable {name} is used more than once"))
        if places and (not froms or places[0].line < froms[0].line):
            problems.append(_at(places[0], "before-from", f"the variable {name} stands before the first FROM"))
    if COMPONENTS in found and (ENVIRONMENTS not in found or found.index(COMPONENTS) < found.index(ENVIRONMENTS)):
        place = instructions[found.index(COMPONENTS)]
        problems.append(
            _at(place, "components-first", "the variable environments must stand before the variable components")
        )
    for use in image_uses((item.name, fill_parent(item.text, _ANY_PARENT)) for item in instructions):
        if use.problem:
            place = instructions[use.index]
            problems.append(
                _at(place, "image", f"the image '{use.image[:80]}' cannot be named here: {use.problem}")
            )
    return problems


def split_template(text: str) -> DockerfileParts:
    """Cut a template that check_template() found no fault with."""
    instructions, _ = _read(text)
    places = [index for index, item in enumerate(instructions) if item.name == COMPONENTS]
    if not places:
        return DockerfileParts(_join(_build_only(instructions)), "", False)
    head = _build_only(instructions[: places[0]])
    tail = _build_only(instructions[places[0] + 1 :])
    return DockerfileParts(_before(head), _after(head, tail), True)


def images_of(text: str) -> tuple[Use, ...]:
    """Every image that a finished Dockerfile names besides its own stages."""
    instructions, _ = _read(text)
    return tuple(image_uses((item.name, item.text) for item in instructions))


def fill_parent(text: str, reference: str) -> str:
    """Put a reference in the place of the parent image variable."""
    return _VARIABLE.sub(lambda found: reference if found.group(1) == PARENT else found.group(0), text)


def _before(head: Sequence[Instruction]) -> str:
    stages = [item for item in head if item.name == "FROM"]
    start = head.index(stages[-1])
    only_parent = len(stages) == 1 and start + 1 == len(head) and not _has_flags(stages[0])
    if only_parent and _VARIABLE.fullmatch(_AS.sub("", stages[0].text.split(None, 1)[1]).strip()):
        return ""
    return _join(head)


def _after(head: Sequence[Instruction], tail: Sequence[Instruction]) -> str:
    if not tail:
        return ""
    last_from = max(index for index, item in enumerate(head) if item.name == "FROM")
    first_from = min(index for index, item in enumerate(head) if item.name == "FROM")
    stage, rest = head[last_from], head[last_from + 1 :]
    lines = list(head[:first_from])
    if _needs_earlier(head[first_from:last_from], tail):
        lines += head[first_from:last_from]
    name = f" AS {stage.stage_name}" if stage.stage_name else ""
    lines.append(Instruction("FROM", f"FROM {DockerfileParts.BASE}{name}", stage.line))
    # An ARG lives as long as its stage, and the committed image does not carry it or the SHELL of its stage. A
    # CMD is in the image, but an ENTRYPOINT empties it unless the stage itself has set it.
    commands = [item for item in rest if item.name == "CMD"]
    last_command = commands[-1:] if any(item.name == "ENTRYPOINT" for item in tail) else []
    lines += [item for item in rest if item.name in ("ARG", "SHELL") or item in last_command]
    return _join([*lines, *tail])


def _needs_earlier(earlier: Sequence[Instruction], tail: Sequence[Instruction]) -> bool:
    """True when something after the cut uses a stage from before the one it was cut in."""
    names = {item.stage_name for item in earlier if item.stage_name}
    for item in tail:
        used = {name.lower() for name in _FROM_FLAG.findall(item.text)}
        if item.name == "FROM":
            used |= {word.lower() for word in item.text.split()[1:2]}
        # a stage given by its number counts from the first stage, so all of them must stay
        if used & names or any(name.isdigit() for name in used):
            return True
    return False


def _has_flags(item: Instruction) -> bool:
    return any(word.startswith("--") for word in item.text.split()[1:])


def _build_only(instructions: Sequence[Instruction]) -> list[Instruction]:
    return [item for item in instructions if item.name not in (ENVIRONMENTS, COMPONENTS)]


def _join(instructions: Sequence[Instruction]) -> str:
    return "".join(f"{item.text}\n" for item in instructions)


def _read(text: str) -> tuple[list[Instruction], list[Problem]]:
    """Instructions with their lines, and what cannot be read."""
    lines = text.splitlines()
    escape = _escape_of(lines)
    instructions: list[Instruction] = []
    problems: list[Problem] = []
    index = 0
    while index < len(lines):
        line = lines[index]
        number = index + 1
        index += 1
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        block = [line]
        while _continues(block[-1], escape) and index < len(lines):
            # comments and empty lines inside a continued instruction do not end it
            if lines[index].strip() and not lines[index].lstrip().startswith("#"):
                block.append(lines[index])
            index += 1
        instructions.append(_instruction(block, number, escape, problems))
    return instructions, problems


def _escape_of(lines: Sequence[str]) -> str:
    for line in lines:
        found = _ESCAPE.fullmatch(line.strip())
        if found:
            return found.group(1)
        if not _DIRECTIVE.fullmatch(line.strip()):
            break
    return "\\"


def _continues(line: str, escape: str) -> bool:
    return line.rstrip(" \t").endswith(escape)


def _instruction(block: Sequence[str], number: int, escape: str, problems: list[Problem]) -> Instruction:
    # buildah gets the standard escape character whatever the template used
    joined = "\n".join(line.rstrip(" \t")[:-1] + "\\" if _continues(line, escape) else line for line in block)
    place = Position(number, 1)
    variable = _VARIABLE.fullmatch(joined.strip())
    if variable and variable.group(1) in (ENVIRONMENTS, COMPONENTS):
        return Instruction(variable.group(1), joined, number)
    for name in _VARIABLE.findall(joined):
        if name not in _KNOWN:
            problems.append(Problem("unknown-variable", f"there is no variable imagebuilder:{name}", place))
        elif name != PARENT:
            problems.append(Problem("not-alone", f"the variable {name} must stand alone on its line", place))
    word = _WORD.match(joined)
    if word is None:
        problems.append(Problem("no-instruction", f"'{block[0].strip()[:40]}' is not an instruction", place))
        return Instruction("", joined, number)
    name = word.group(1).upper()
    if name in ("RUN", "COPY", "ADD") and _HEREDOC.search(joined):
        problems.append(
            Problem("heredoc", "here-documents are not supported", place, hint="use RUN with && or a component")
        )
    return Instruction(name, joined, number)


def _at(item: Instruction, code: str, message: str) -> Problem:
    return Problem(code, message, Position(item.line, 1))
