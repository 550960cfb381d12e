"""Checks Dockerfile templates as CreateContainerRecipe does (spec/api.md 6.2). Pure.

FROM {{{ imagebuilder:parentImage }}}
{{{ imagebuilder:environments }}}          files of the components
ENV A=b
{{{ imagebuilder:components }}}            components run here, in the instance of the stage
CMD ["x"]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from imagesmith.dockerfiles.graph import build_graph
from imagesmith.dockerfiles.images import image_uses
from imagesmith.dockerfiles.model import Dockerfile, FromInstruction, Instruction, Placeholder
from imagesmith.dockerfiles.parser import parse_dockerfile
from imagesmith.dockerfiles.placeholders import COMPONENTS, ENVIRONMENTS, is_parent, names_parent
from imagesmith.dockerfiles.refusals import template_refusals
from imagesmith.dockerfiles.value_checks import check_values
from imagesmith.values.diagnostics import Position, Problem, errors_of

_SHOWN = 80
"""Characters of what a line names that an error shows."""


def check_template(text: str, *, has_components: bool) -> list[Problem]:
    """All that is wrong with a template, in the order of its lines. `has_components`: the recipe lists some."""
    dockerfile = parse_dockerfile(text)
    problems = _variable_problems(dockerfile, has_components=has_components)
    return in_order([*problems, *check_dockerfile(dockerfile)])


def check_dockerfile(dockerfile: Dockerfile) -> list[Problem]:
    """All that is wrong with a Dockerfile, whatever variables of Image Builder it has."""
    graph = build_graph(dockerfile)
    problems = [*dockerfile.problems, *graph.problems]
    if any(problem.code == "too-large" for problem in problems):
        return in_order(problems)
    problems += check_values(graph)
    problems += template_refusals(dockerfile, graph)
    for use in image_uses(graph):
        if use.problem:
            message = f"the image '{use.image[:_SHOWN]}' cannot be named here: {use.problem}"
            problems.append(Problem("image", message, use.position))
    return in_order(problems)


def unreadable_lines(text: str) -> tuple[Problem, ...]:
    """The errors of lines that are no instruction.

    CreateContainerRecipe refuses them; a recipe that an older version stored may have them.
    """
    return tuple(errors_of(parse_dockerfile(text).problems))


def runs_components(text: str) -> bool:
    """Whether a template names the place where components run."""
    return any(is_variable(item, COMPONENTS) for item in parse_dockerfile(text).instructions)


def is_variable(item: Instruction, name: str) -> bool:
    """Whether an instruction is a variable of Image Builder on a line of its own."""
    return isinstance(item, Placeholder) and item.variable == name


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    return sorted(dict.fromkeys(problems), key=lambda problem: problem.position or Position(0, 0))


def _variable_problems(dockerfile: Dockerfile, *, has_components: bool) -> Iterator[Problem]:
    """What is wrong with where the variables of Image Builder stand."""
    items = dockerfile.instructions
    froms = [item for item in items if isinstance(item, FromInstruction)]
    if not froms:
        yield Problem("no-from", "the Dockerfile template has no FROM instruction")
    for first in froms:
        if is_parent(first.image.text) and not names_parent(first.source.text):
            message = "the variable {{{ imagebuilder:parentImage }}} must stand on one line"
            yield Problem("broken-variable", message, first.image.position)
    if not any(is_parent(item.image.text) for item in froms):
        message = "no FROM uses the variable {{{ imagebuilder:parentImage }}}, which is required"
        yield Problem("no-parent", message)
    variables = {name: [item for item in items if is_variable(item, name)] for name in (ENVIRONMENTS, COMPONENTS)}
    if has_components and not variables[ENVIRONMENTS]:
        message = "the recipe lists components, so the variable {{{ imagebuilder:environments }}} is required"
        yield Problem("no-environments", message)
    for name, found in variables.items():
        for again in found[1:]:
            yield Problem("variable-twice", f"the variable {name} is used more than once", again.position)
    for item in variables[COMPONENTS][:1]:
        if not variables[ENVIRONMENTS] or item.position < variables[ENVIRONMENTS][0].position:
            message = "the variable environments must come before the variable components"
            yield Problem("components-first", message, item.position)
