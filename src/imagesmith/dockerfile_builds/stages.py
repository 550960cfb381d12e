"""Carries out the stages of a graph, each behind those that it needs; errors name the instruction."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from imagesmith.artifacts.cache_use import CacheUse, StepInputs
from imagesmith.dockerfile_builds.build_context import BuildContext
from imagesmith.dockerfile_builds.cached_steps import CachedSteps
from imagesmith.dockerfile_builds.copy_instruction import carry_out_copy, copy_request
from imagesmith.dockerfile_builds.failures import DockerfileFailed, label_of
from imagesmith.dockerfile_builds.instruction_inputs import copy_inputs, folder_inputs, run_inputs
from imagesmith.dockerfile_builds.run_instruction import carry_out_run
from imagesmith.dockerfile_builds.run_mounts import cache_name
from imagesmith.dockerfile_builds.source_roots import SourceRoots
from imagesmith.dockerfile_builds.stage_build import StageBuild, arguments_of
from imagesmith.dockerfile_builds.stage_images import StageImage, StageImages, scratch_image
from imagesmith.dockerfile_builds.stage_output import StageOutput
from imagesmith.dockerfile_builds.stage_schedule import LinkedCancellation, carry_out_stages, in_order, is_chain
from imagesmith.dockerfiles.go_values import normal_platform
from imagesmith.dockerfiles.model import (
    AddInstruction,
    CopyInstruction,
    Instruction,
    Placeholder,
    RunInstruction,
    RunMount,
    WorkdirInstruction,
)
from imagesmith.dockerfiles.placeholders import shown
from imagesmith.dockerfiles.stages import BaseKind, DockerfileStage, Graph, ResolvedInstruction, Taken
from imagesmith.dockerfiles.variables import PLATFORM
from imagesmith.instances.mount_targets import make_folders
from imagesmith.instances.protocol import InstanceError


class StageRunner:
    """Of one build; close() removes its containers."""

    def __init__(
        self, context: BuildContext, graph: Graph, images: StageImages, *, triggers: frozenset[int],
        starts: dict[int, StageImage] | None = None, cache: CacheUse | None = None,
    ) -> None:  # fmt: skip
        """`starts`: images that stages start from instead of those that they name, by index."""
        self._context = context
        self._graph = graph
        self._images = images
        self._triggers = triggers
        self._starts = starts or {}
        self._builds: dict[int, StageBuild] = {}
        self._sources = SourceRoots(context, images, lambda index: self._builds[index])
        self._steps = CachedSteps(cache)
        self._uses_cache = cache is not None and cache.cache.is_on
        self._cache_uses = Counter(
            name
            for stage in graph.stages for resolved in stage.body if isinstance(resolved.instruction, RunInstruction)
            for mount in resolved.instruction.mounts if (name := cache_name(mount)) is not None
        )  # fmt: skip

    def run(self, target: int) -> StageImage:
        """The image of a stage. Raises DockerfileFailed, InstanceError, Cancelled."""
        needs = {stage.index: stage.needs for stage in self._graph.stages}
        order, context = in_order(target, needs), self._context
        stop, lock = LinkedCancellation(context.cancellation), threading.Lock()
        at_once = 1 if is_chain(order, needs) else context.at_once
        # whoever is from a stage, or looks up what was copied from it, takes its image: it is made in its own turn
        imaged = {index for index in order if self._uses_cache or self._is_base(index, order)} | {target}

        def work(index: int) -> None:
            prefix = f"[{order.index(index) + 1}/{len(order)}] " if len(order) > 1 else ""
            own = replace(context, cancellation=stop)
            if at_once > 1 and context.on_output is not None:
                output = StageOutput(context.on_output, prefix, lock)
                own, prefix = replace(own, on_output=output), ""
            try:
                self._carry_out(self._graph.stages[index], own, prefix)
                if index in imaged:
                    self._builds[index].image()
            finally:
                if isinstance(own.on_output, StageOutput):
                    own.on_output.flush()

        carry_out_stages(order, needs, work, at_once=at_once, stop=stop)
        return self._builds[target].image()

    def close(self) -> None:
        try:
            self._sources.close()
        finally:
            while self._builds:
                self._builds.popitem()[1].close()

    def _is_base(self, index: int, order: Sequence[int]) -> bool:
        return any(self._graph.stages[other].base.stage == index for other in order)

    def _carry_out(self, stage: DockerfileStage, context: BuildContext, prefix: str) -> None:
        name = f"{context.name}-stage{stage.index}"
        build = self._builds[stage.index] = StageBuild(context, self._start_of(stage), name)
        body = [resolved for resolved in stage.body if not isinstance(resolved.instruction, Placeholder)]
        steps = len(body) + 1
        context.tell(f"{prefix}STEP 1/{steps}: {_shown(stage.first)}")
        for number, resolved in enumerate(body, 2):
            with self._named(resolved):
                context.check()
                context.tell(f"{prefix}STEP {number}/{steps}: {_shown(resolved.instruction)}")
                self._instruction(build, stage, resolved)
                context.check()
        # the limits are those of the build: a stage that is complete holds no sandbox
        build.rest()

    def _start_of(self, stage: DockerfileStage) -> StageImage:
        known = self._starts.get(stage.index)
        if known is not None:
            return known
        if stage.base.kind is BaseKind.SCRATCH:
            token = stage.first.platform
            platform = normal_platform(stage.start.text(token).text) if token else _OWN_PLATFORM
            return scratch_image(platform).as_parent()
        if stage.base.kind is BaseKind.STAGE:
            return self._builds[stage.base.stage].image().as_parent()
        image = self._images.parent() if stage.base.kind is BaseKind.PARENT else self._images.named(stage.base.name)
        return image.as_parent()

    def _instruction(self, build: StageBuild, stage: DockerfileStage, resolved: ResolvedInstruction) -> None:
        item, before = resolved.instruction, build.config
        build.configure(resolved)
        if not isinstance(item, _WRITING):
            build.note(resolved, before, writes_files=False)
            return
        same = [
            other for other in stage.body if other.instruction.name == item.name and other.index < resolved.index
        ]
        self._steps.perform(
            build, resolved, before=before, step=f"{stage.name or stage.index}/{item.name} {len(same)}",
            inputs=lambda: self._inputs(build, stage, resolved),
            carry_out=lambda: self._carry_out_instruction(build, stage, resolved),
        )  # fmt: skip

    def _carry_out_instruction(
        self, build: StageBuild, stage: DockerfileStage, resolved: ResolvedInstruction
    ) -> None:
        item = resolved.instruction
        if isinstance(item, RunInstruction):
            carry_out_run(build, resolved, item, lambda mount: self._sources.of(_taken(stage, resolved, mount)))
        elif isinstance(item, (CopyInstruction, AddInstruction)):
            carry_out_copy(build, resolved, item, self._sources.of(_taken(stage, resolved, None)))
        else:
            user = build.find_user(build.config.user).identity
            make_folders(build.root(), build.config.working_dir, uid=user.uid, gid=user.gid, ids=build.instance.ids)

    def _inputs(self, build: StageBuild, stage: DockerfileStage, resolved: ResolvedInstruction) -> StepInputs | str:
        """What the result of an instruction depends on, or why it is not kept."""
        item = resolved.instruction
        if isinstance(item, RunInstruction):
            shared = self._shared_cache(item)
            if shared:
                return shared
            return run_inputs(
                build.config, resolved, item, arguments=arguments_of(resolved),
                network=self._context.network,
                sources={mount.token.text: self._source(stage, resolved, mount) for mount in item.mounts},
            )  # fmt: skip
        if isinstance(item, (CopyInstruction, AddInstruction)):
            request = copy_request(resolved, item, build.config.working_dir or "/")
            source = self._source(stage, resolved, None)
            return copy_inputs(request, source=source, network=self._context.network)
        return folder_inputs(build.config)

    def _source(self, stage: DockerfileStage, resolved: ResolvedInstruction, mount: RunMount | None) -> list[str]:
        """What an instruction, or one of its mounts, can read of a stage or image."""
        taken = _taken(stage, resolved, mount)
        return [layer.diff_id for layer in self._sources.layers(taken)] if taken else []

    def _shared_cache(self, item: RunInstruction) -> str:
        """Why the result of a RUN is not kept: with another one it may share a cache, which is part of no layer."""
        if self._cache_uses.total() > 1:
            for name in map(cache_name, item.mounts):
                if name is not None and (not name or self._cache_uses[name] > 1 or self._cache_uses[""]):
                    return f"another RUN may use the cache '{name[:80]}' as well" if name else _UNKNOWN_CACHE
        return ""

    @contextmanager
    def _named(self, resolved: ResolvedInstruction) -> Iterator[None]:
        """Errors of the block name the instruction."""
        try:
            yield
        except InstanceError as error:
            where = label_of(resolved, is_trigger=resolved.index in self._triggers)
            text = str(error) if isinstance(error, DockerfileFailed) else f"failed: {error}"
            raise DockerfileFailed(f"{where} {text}") from error


_WRITING = (RunInstruction, CopyInstruction, AddInstruction, WorkdirInstruction)
_UNKNOWN_CACHE = "another RUN may use the same cache, whose name is not known before the build"
_OWN_PLATFORM = PLATFORM["TARGETPLATFORM"]


def _shown(item: Instruction) -> str:
    return " ".join(shown(item.source.line.text).split())


def _taken(stage: DockerfileStage, resolved: ResolvedInstruction, mount: RunMount | None) -> Taken | None:
    """What an instruction, or one of its mounts, takes files from."""
    for taken in stage.taken:
        if taken.resolved is resolved and (mount is None or mount.token == taken.token):
            return taken
    return None
