"""A Dockerfile before its build: read with the images that it is from, their variables and their triggers.

text --parse--> instructions --images of FROM--> triggers put in --graph with their variables--> checked
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from imagesmith.dockerfile_builds.failures import DockerfileFailed
from imagesmith.dockerfile_builds.stage_images import StageImage, StageImages
from imagesmith.dockerfiles.graph import build_graph
from imagesmith.dockerfiles.images import image_uses
from imagesmith.dockerfiles.model import Dockerfile, Instruction, OnbuildInstruction
from imagesmith.dockerfiles.parser import parse_dockerfile
from imagesmith.dockerfiles.placeholders import COMPONENTS
from imagesmith.dockerfiles.refusals import NO_CONTEXT, template_refusals
from imagesmith.dockerfiles.stages import Base, BaseKind, DockerfileStage, Graph
from imagesmith.dockerfiles.template import is_variable
from imagesmith.dockerfiles.triggers import TriggerError, parse_trigger, with_triggers
from imagesmith.dockerfiles.value_checks import check_values
from imagesmith.values.diagnostics import Problem, errors_of

_SHOWN: Final = 80


@dataclass(frozen=True)
class PreparedDockerfile:
    """What is carried out."""

    graph: Graph
    triggers: frozenset[int]
    """The numbers of the instructions that are triggers of images."""
    cut: int
    """The number of the instruction that stands for the components; -1 when there is none."""

    def before_components(self) -> tuple[Graph, int]:
        """The graph as far as the components need it, and their stage."""
        target = self._cut_stage()
        stage = self.graph.stages[target]
        part = replace(
            stage,
            body=tuple(item for item in stage.body if item.index < self.cut),
            taken=tuple(item for item in stage.taken if item.resolved.index < self.cut),
        )
        return self._with(part), target

    def after_components(self) -> tuple[Graph, int]:
        """The graph of what follows the components, and their stage, which starts from an image."""
        target = self._cut_stage()
        stage = self.graph.stages[target]
        part = replace(
            stage,
            base=Base(BaseKind.IMAGE, stage.base.name),
            body=tuple(item for item in stage.body if item.index > self.cut),
            taken=tuple(item for item in stage.taken if item.resolved.index > self.cut),
        )
        return self._with(part), target

    def _cut_stage(self) -> int:
        return max(stage.index for stage in self.graph.stages if stage.start.index < self.cut)

    def _with(self, part: DockerfileStage) -> Graph:
        stages = tuple(part if stage.index == part.index else stage for stage in self.graph.stages)
        return replace(self.graph, stages=stages)


def prepare(text: str, images: StageImages, *, parent_triggers: Sequence[str]) -> PreparedDockerfile:
    """Read a Dockerfile and the images of its FROM lines.

    `parent_triggers` are those of the parent, whose image in the storage has none.
    Raises DockerfileFailed, and what pulling an image raises.
    """
    dockerfile = parse_dockerfile(text)
    _refuse(dockerfile.problems)
    first = build_graph(dockerfile)
    _refuse(first.problems)
    _refuse_images(first)
    found = _base_images(first, images)
    dockerfile, triggers = _with_triggers(dockerfile, first, found, parent_triggers)
    variables = {first.stages[index].base.name: image.as_parent().config.env for index, image in found.items()}
    graph = build_graph(dockerfile, variables)
    _check(dockerfile, graph, triggers)
    indexes = [index for index, item in enumerate(dockerfile.instructions) if is_variable(item, COMPONENTS)]
    return PreparedDockerfile(graph, triggers, indexes[0] if indexes else -1)


def _base_images(graph: Graph, images: StageImages) -> Mapping[int, StageImage]:
    """The images that needed stages are from, by the index of the stage."""
    found = {}
    wanted = graph.needed | _stage_of_components(graph)
    for index in sorted(wanted):
        base = graph.stages[index].base
        if base.kind is BaseKind.PARENT:
            found[index] = images.parent()
        elif base.kind is BaseKind.IMAGE:
            found[index] = images.named(base.name)
    return found


def _stage_of_components(graph: Graph) -> frozenset[int]:
    for stage in graph.stages:
        if any(is_variable(resolved.instruction, COMPONENTS) for resolved in stage.body):
            return graph.needed_by(stage.index)
    return frozenset()


def _with_triggers(
    dockerfile: Dockerfile, graph: Graph, images: Mapping[int, StageImage], parent_triggers: Sequence[str]
) -> tuple[Dockerfile, frozenset[int]]:
    stages = {stage.start.index: stage for stage in graph.stages}

    def triggers_of(index: int) -> Sequence[Instruction]:
        stage = stages[index]
        if stage.base.kind is BaseKind.STAGE:
            body = graph.stages[stage.base.stage].body
            return [item.instruction.trigger for item in body if isinstance(item.instruction, OnbuildInstruction)]
        image = images.get(stage.index)
        texts = image.config.triggers if image else ()
        if stage.base.kind is BaseKind.PARENT:
            texts = tuple(parent_triggers)
        try:
            return [parse_trigger(trigger) for trigger in texts]
        except TriggerError as error:
            raise DockerfileFailed(f"{_origin(stage)} cannot be used: {error}") from error

    return with_triggers(dockerfile, triggers_of)


def _origin(stage: DockerfileStage) -> str:
    """The image whose triggers a stage carries out, in words."""
    return "the parent image" if stage.base.kind is BaseKind.PARENT else f"the image {stage.base.name[:_SHOWN]}"


def _check(dockerfile: Dockerfile, graph: Graph, triggers: frozenset[int]) -> None:
    """Refuse what the whole, triggers included, cannot be. Raises DockerfileFailed."""
    _refuse(graph.problems)
    _refuse_images(graph, triggers)
    # whoever wrote a trigger had a build context; the one of this build is empty
    problems = [*check_values(graph), *template_refusals(dockerfile, graph)]
    _refuse([problem for problem in problems if problem.code != NO_CONTEXT])


def _refuse(problems: Sequence[Problem]) -> None:
    failing = errors_of(problems)
    if failing:
        raise DockerfileFailed(f"the Dockerfile cannot be built: {failing[0].render('Dockerfile')}")


def _refuse_images(graph: Graph, triggers: frozenset[int] = frozenset()) -> None:
    needed = graph.needed | _stage_of_components(graph)
    for use in image_uses(graph):
        if use.problem and use.stage in needed:
            named = f"names the image '{use.image[:_SHOWN]}': {use.problem}"
            if use.index in triggers:
                raise DockerfileFailed(f"{_origin(graph.stages[use.stage])} cannot be used: its trigger {named}")
            raise DockerfileFailed(f"the Dockerfile {named}")
