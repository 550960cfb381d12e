"""Image Builder's variables in a Dockerfile template: `{{{ imagebuilder:parentImage }}}` and two more. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from imagesmith.dockerfiles.lines import SPACE, Line
from imagesmith.values.diagnostics import Problem

PARENT: Final = "parentImage"
ENVIRONMENTS: Final = "environments"
COMPONENTS: Final = "components"
_LINES: Final = (ENVIRONMENTS, COMPONENTS)
_PLACEHOLDER: Final = re.compile(r"\{\{\{[ \t_]*imagebuilder:([A-Za-z]+)[ \t_]*\}\}\}")


def without_blanks(line: Line) -> Line:
    """The line with its placeholders as one word each; every character keeps its position."""
    if "imagebuilder:" not in line.text:
        return line
    text = _PLACEHOLDER.sub(lambda found: re.sub(r"[ \t]", "_", found[0]), line.text)
    return replace(line, text=text)


def shown(text: str) -> str:
    """A text for people, in which each placeholder is written with blanks."""
    return _PLACEHOLDER.sub(lambda found: f"{{{{{{ imagebuilder:{found[1]} }}}}}}", text)


def line_placeholder(line: Line) -> str:
    """The placeholder that stands alone on a line, if it is one of those that do."""
    found = _PLACEHOLDER.fullmatch(line.text.strip(SPACE))
    return found[1] if found and found[1] in _LINES else ""


def placeholder_problems(line: Line) -> Iterator[Problem]:
    """What is wrong with the placeholders of a line that is an instruction."""
    for found in _PLACEHOLDER.finditer(line.text):
        position = line.at(found.start())
        if found[1] in _LINES:
            yield Problem("not-alone", f"the variable {found[1]} must be alone on its line", position)
        elif found[1] != PARENT:
            known = f"the variables are {PARENT}, {ENVIRONMENTS} and {COMPONENTS}"
            yield Problem("unknown-variable", f"there is no variable imagebuilder:{found[1]}", position, hint=known)


def is_parent(text: str) -> bool:
    """Whether a word is the placeholder of the parent and nothing else."""
    found = _PLACEHOLDER.fullmatch(text)
    return found is not None and found[1] == PARENT


def names_parent(text: str) -> bool:
    return any(found[1] == PARENT for found in _PLACEHOLDER.finditer(text))


def has_placeholder(text: str) -> bool:
    return _PLACEHOLDER.search(text) is not None
