"""Dockerfile templates: checking, and cutting them at the place where components run (spec/api.md 6.2).

    FROM {{{ imagebuilder:parentImage }}}      \\
    {{{ imagebuilder:environments }}}           |  before: built by buildah, gives the image that
    ENV A=b                                    /   the component instance starts on
    {{{ imagebuilder:components }}}            --  components run in the instance; it is committed
    CMD ["x"]                                  --  after: built by buildah on the committed image

buildah gets each part as text, instruction by instruction as it was read. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from imagesmith.dockerfiles.builder_limits import builder_problems, reading_problems
from imagesmith.dockerfiles.graph import DockerfileStage, Graph, build_graph
from imagesmith.dockerfiles.images import ImageUse, image_uses
from imagesmith.dockerfiles.model import Dockerfile, FromInstruction, Instruction, Placeholder, RunInstruction
from imagesmith.dockerfiles.parser import parse_dockerfile
from imagesmith.dockerfiles.placeholders import COMPONENTS, ENVIRONMENTS, is_parent, names_parent
from imagesmith.dockerfiles.refusals import template_refusals
from imagesmith.dockerfiles.value_checks import check_values
from imagesmith.values.diagnostics import Position, Problem, errors_of

_SHOWN = 80
"""Characters of what a line names that an error shows."""
_DOCKER_ONLY = frozenset({"HEALTHCHECK", "ONBUILD", "SHELL"})


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
    """All that is wrong with a template, in the order of its lines. `has_components`: the recipe lists some."""
    dockerfile = parse_dockerfile(text)
    graph = build_graph(dockerfile)
    problems = [
        *dockerfile.problems,
        *_variable_problems(dockerfile, has_components=has_components),
        *graph.problems,
    ]
    if any(problem.code == "too-large" for problem in problems):
        return _in_order(problems)
    problems += check_values(graph)
    problems += template_refusals(dockerfile, graph)
    problems += builder_problems(dockerfile, graph)
    for use in image_uses(graph):
        if use.problem:
            what, verb = ("mount", "made") if use.is_mount else ("image", "named here")
            message = f"the {what} '{use.image[:_SHOWN]}' cannot be {verb}: {use.problem}"
            problems.append(Problem(what, message, use.position))
    return _in_order(problems)


def unreadable_lines(text: str) -> tuple[Problem, ...]:
    """The errors of lines that are no instruction: a cut of the template would leave these lines out.

    CreateContainerRecipe refuses them; a recipe that an older version stored may have them.
    """
    return tuple(errors_of(parse_dockerfile(text).problems))


def read_problems(text: str) -> list[Problem]:
    """What keeps a Dockerfile from being handed to the builder: it cannot be read, or would be read otherwise."""
    dockerfile = parse_dockerfile(text)
    graph = build_graph(dockerfile)
    found = [*dockerfile.problems, *graph.problems, *reading_problems(dockerfile, graph)]
    return [problem for problem in _in_order(found) if problem.severity == "error"]


def with_checked_images(text: str) -> str:
    """A finished Dockerfile whose FROM lines name the images that were checked.

    The builder expands variables by rules of its own, which depend on its version. Raises ValueError for a name
    that would be several words.
    """
    dockerfile = parse_dockerfile(text)
    starts = {stage.start.index: stage for stage in build_graph(dockerfile).stages}
    escape = dockerfile.directives.escape
    lines = [
        _from_line(starts[index]) if index in starts else _without_locks(item, builder_text(item, escape))
        for index, item in enumerate(dockerfile.instructions)
    ]
    return "".join(f"{line}\n" for line in lines)


def _without_locks(instruction: Instruction, text: str) -> str:
    """The lines of a RUN whose caches are not locked: a cache belongs to one build, whose steps run in turn.

    The builder keeps its lock as a file in the cache itself, where an earlier RUN may have put something else.
    Raises ValueError when the mount is not written in one piece.
    """
    for mount in instruction.mounts if isinstance(instruction, RunInstruction) else ():
        if mount.sharing == "locked":
            given = mount.token.text
            kept = ",".join(
                word for word in given.split(",") if word.partition("=")[0].strip().lower() != "sharing"
            )
            for quote in ("", '"', "'"):
                written = f"--mount={quote}{given}{quote}"
                if written in text:
                    text = text.replace(written, f"--mount={kept}", 1)
                    break
            else:
                raise ValueError(
                    f"'--mount={given[:_SHOWN]}': leave sharing=locked out, a cache belongs to one build"
                )
    return text


def _from_line(stage: DockerfileStage) -> str:
    first = stage.first
    platform = f"--platform={stage.start.text(first.platform).text} " if first.platform else ""
    name = f" AS {first.stage.text}" if first.stage else ""
    if len(f"{platform}{stage.base.name}".split()) != 1 + bool(platform):
        raise ValueError(f"FROM '{stage.base.name[:_SHOWN]}': an image or platform is one word")
    return f"FROM {platform}{stage.base.name}{name}"


def images_of(text: str) -> tuple[ImageUse, ...]:
    """Every image that a finished Dockerfile names besides its own stages."""
    return tuple(image_uses(build_graph(parse_dockerfile(text))))


def runs_behind_volumes(text: str) -> bool:
    """Whether a RUN stands behind a VOLUME, in the same stage or in one that may inherit it."""
    names = [item.name for item in parse_dockerfile(text).instructions]
    return "VOLUME" in names and "RUN" in names[names.index("VOLUME") :]


def uses_docker_members(text: str) -> bool:
    """Whether a Dockerfile writes what only docker's format has members for."""
    return any(item.name in _DOCKER_ONLY for item in parse_dockerfile(text).instructions)


def split_template(text: str) -> DockerfileParts:
    """Cut a template that check_template() found no fault with."""
    dockerfile = parse_dockerfile(text)
    items, escape = dockerfile.instructions, dockerfile.directives.escape
    places = [index for index, item in enumerate(items) if _is_variable(item, COMPONENTS)]
    if not places:
        return DockerfileParts(join_instructions(_build_only(items), escape), "", False)
    cut = places[0]
    head = _build_only(items[:cut])
    # the components' container is made from an image without triggers, so those of the built image are written last
    start = max(index for index, item in enumerate(head) if isinstance(item, FromInstruction))
    triggers = [item for item in head[start:] if item.name == "ONBUILD"]
    head = head[:start] + [item for item in head[start:] if item.name != "ONBUILD"]
    tail = [*triggers, *_build_only(items[cut + 1 :])]
    earlier = _needs_earlier(build_graph(dockerfile), cut)
    return DockerfileParts(_before(head, escape), _after(head, tail, escape, needs_earlier=earlier), True)


def join_instructions(instructions: Iterable[Instruction], escape: str) -> str:
    return "".join(f"{builder_text(item, escape)}\n" for item in instructions)


def builder_text(instruction: Instruction, escape: str) -> str:
    """The lines of an instruction with the standard escape character at their ends, whatever the template used."""
    lines = instruction.source.text.split("\n")
    return "\n".join(
        line.rstrip(" \t")[:-1] + "\\" if line.rstrip(" \t").endswith(escape) else line for line in lines
    )


def _in_order(problems: Iterable[Problem]) -> list[Problem]:
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
    places = {name: [item for item in items if _is_variable(item, name)] for name in (ENVIRONMENTS, COMPONENTS)}
    if has_components and not places[ENVIRONMENTS]:
        message = "the recipe lists components, so the variable {{{ imagebuilder:environments }}} is required"
        yield Problem("no-environments", message)
    for name, found in places.items():
        for again in found[1:]:
            yield Problem("variable-twice", f"the variable {name} is used more than once", again.position)
    for item in places[COMPONENTS][:1]:
        if not places[ENVIRONMENTS] or item.position < places[ENVIRONMENTS][0].position:
            message = "the variable environments must come before the variable components"
            yield Problem("components-first", message, item.position)


def _before(head: Sequence[Instruction], escape: str) -> str:
    stages = [item for item in head if isinstance(item, FromInstruction)]
    only_parent = len(stages) == 1 and head[-1] is stages[0] and stages[0].platform is None
    if only_parent and is_parent(stages[0].image.text):
        return ""
    return join_instructions(head, escape)


def _after(head: Sequence[Instruction], tail: Sequence[Instruction], escape: str, *, needs_earlier: bool) -> str:
    if not tail:
        return ""
    starts = [index for index, item in enumerate(head) if isinstance(item, FromInstruction)]
    stage, rest = head[starts[-1]], head[starts[-1] + 1 :]
    kept = head[: starts[-1] if needs_earlier else starts[0]]
    name = f" AS {stage.stage.text}" if isinstance(stage, FromInstruction) and stage.stage else ""
    # An ARG lives as long as its stage, and the committed image does not carry it or the SHELL of its stage. A
    # CMD is in the image, but an ENTRYPOINT empties it unless the stage itself has set it.
    commands = [item for item in rest if item.name == "CMD"]
    last_command = commands[-1:] if any(item.name == "ENTRYPOINT" for item in tail) else []
    again = [item for item in rest if item.name in ("ARG", "SHELL") or item in last_command]
    start = f"FROM {DockerfileParts.BASE}{name}\n"
    return join_instructions(kept, escape) + start + join_instructions([*again, *tail], escape)


def _needs_earlier(graph: Graph, cut: int) -> bool:
    """True when something after the cut uses a stage from before the one it was cut in."""
    before = [stage.index for stage in graph.stages if stage.start.index < cut]
    if not before:
        return False
    cut_stage = before[-1]
    return any(
        # a stage given by its number counts from the first stage, so all of them must stay
        number or 0 <= used < cut_stage
        for stage in graph.stages[cut_stage:]
        for used, number in _used_after(stage, cut)
    )


def _used_after(stage: DockerfileStage, cut: int) -> Iterator[tuple[int, bool]]:
    """The stages that a stage uses behind the cut, and whether by number."""
    if stage.start.index > cut:
        yield stage.base.stage, False
    yield from ((item.stage, item.name.isdecimal()) for item in stage.taken if item.placed.index > cut)


def _is_variable(item: Instruction, name: str) -> bool:
    return isinstance(item, Placeholder) and item.variable == name


def _build_only(instructions: Sequence[Instruction]) -> list[Instruction]:
    return [item for item in instructions if not isinstance(item, Placeholder)]
