"""Builds Dockerfiles: reads them with their images, carries out the stages, makes the image.

    template --prepare--> graph --stages before the components--> image --components (builds/)--> image
                            |                                                                       |
                            '--stages after them, or all of them where there are none---------------'--> image

Nothing of a build remains in the storage but its image, however it ends.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial

from imagesmith.artifacts.cache_use import CacheUse
from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.copying.copier import FileCopier
from imagesmith.copying.copiers import Copiers
from imagesmith.dockerfile_builds.build_context import BuildContext, CacheMountLocks, LateNamespace
from imagesmith.dockerfile_builds.config_instructions import apply
from imagesmith.dockerfile_builds.image_config import ImageConfig
from imagesmith.dockerfile_builds.prepared import PreparedDockerfile, prepare
from imagesmith.dockerfile_builds.stage_images import StageImage, StageImages
from imagesmith.dockerfile_builds.stages import StageRunner
from imagesmith.dockerfiles.model import Placeholder
from imagesmith.dockerfiles.stages import BaseKind, DockerfileStage, Graph
from imagesmith.instances.command import NetworkKind
from imagesmith.instances.limits import ResourceLimits
from imagesmith.layers.layer_rules import LayerRules
from imagesmith.namespaces.build_namespace import BuildNamespace
from imagesmith.processes import Cancellation, OnOutput


@dataclass(frozen=True, kw_only=True)
class DockerfileBuild:
    """What a Dockerfile is built with."""

    storage: ContainerStorage
    text: str
    name: str
    """Containers and sandboxes are named after it: `<build id>-<role>`."""
    find: Callable[[str], str]
    """Pulls an image by its name and returns its id in the storage."""
    parent: str = ""
    """The id of the image that the parent's variable stands for, which has no triggers."""
    triggers: Sequence[str] = ()
    """The triggers of the parent."""
    limits: ResourceLimits = field(default_factory=ResourceLimits)
    timeout: float
    """Seconds of the whole build."""
    network: NetworkKind = "outbound"
    cache: CacheUse | None = None
    """Results of earlier builds; None: every instruction is carried out, and nothing is kept."""
    make_copier: Callable[[BuildNamespace], AbstractContextManager[FileCopier]] | None = None
    """Makes what carries out COPY and ADD for the roots of a namespace; None: with the network of the build."""
    at_once: int = 1
    """The most stages that are carried out at the same time, each within the limits."""
    cancellation: Cancellation | None = None
    on_output: OnOutput | None = None
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    """The time of the image and of its history, unless the rules have one."""
    rules: LayerRules | None = None
    """Of a reproducible build."""

    def whole(self) -> str:
        """Build all of it and return the image's id; components are left out.

        Raises DockerfileFailed, InstanceError, Cancelled, and what `find` raises.
        """
        images, prepared = self._prepared()
        return self._built(images, prepared, prepared.graph, len(prepared.graph.stages) - 1)

    def before_components(self) -> str:
        """Build what the components run on, all of it if there is no place for them; returns the image's id.

        It has no triggers yet: its container must not have them. Raises as whole() does.
        """
        images, prepared = self._prepared()
        if prepared.cut < 0:
            return self._built(images, prepared, prepared.graph, len(prepared.graph.stages) - 1)
        graph, target = prepared.before_components()
        stage = graph.stages[target]
        if _is_parent_itself(stage):
            return self.parent
        return self._built(images, prepared, graph, target, keeps_triggers=False)

    def after_components(self, image_id: str) -> str:
        """Build what follows the components, on the image that they left; returns the image's id.

        Raises as whole() does.
        """
        images, prepared = self._prepared()
        if prepared.cut < 0:
            return image_id
        graph, target = prepared.after_components()
        left = images.stored(image_id)
        start = _resumed(left, _stage_before(prepared, target))
        last = len(graph.stages) - 1
        unchanged = start.config.members() == left.config.members()
        if last == target and unchanged and not _instructions(graph.stages[target]):
            return image_id
        return self._built(images, prepared, graph, last, starts={target: start})

    def _now(self) -> datetime:
        return (self.rules.moment if self.rules else None) or self.now()

    def _prepared(self) -> tuple[StageImages, PreparedDockerfile]:
        images = StageImages(self.storage, parent=self.parent, find=self.find, now=self._now)
        return images, prepare(self.text, images, parent_triggers=self.triggers)

    def _built(
        self, images: StageImages, prepared: PreparedDockerfile, graph: Graph, target: int, *,
        starts: dict[int, StageImage] | None = None, keeps_triggers: bool = True,
    ) -> str:  # fmt: skip
        with self._context() as context:
            runner = StageRunner(
                context, graph, images, triggers=prepared.triggers, starts=starts, cache=self.cache
            )  # fmt: skip
            try:
                made = runner.run(target)
                if not keeps_triggers:
                    made = replace(made, config=replace(made.config, triggers=()))
                return images.write(made)
            finally:
                runner.close()
                if self.cache is not None:
                    self.cache.cache.trim()

    @contextmanager
    def _context(self) -> Iterator[BuildContext]:
        with ExitStack() as stack:
            work = stack.enter_context(self.storage.scratch())
            namespace = stack.enter_context(closing(LateNamespace(self.storage.new_namespace)))
            given = stack.enter_context(self.make_copier(namespace.get())) if self.make_copier else None
            make = partial(self._own_copier, namespace)
            copiers = stack.enter_context(closing(Copiers(make, given=given)))
            yield BuildContext(
                storage=self.storage, name=self.name, limits=self.limits, network=self.network,
                timeout=self.timeout, until=self.clock() + self.timeout, clock=self.clock, now=self._now,
                cancellation=self.cancellation, on_output=self.on_output, copiers=copiers, work=work,
                caches=CacheMountLocks(), at_once=self.at_once, late_namespace=namespace, rules=self.rules,
            )  # fmt: skip

    def _own_copier(self, namespace: LateNamespace, number: int) -> FileCopier:
        name = f"{self.storage.key}-{self.name}-files{number or ''}"
        return FileCopier(
            name, disk=self.storage.root, network=self.network, limits=self.limits, namespace=namespace.get()
        )


def _is_parent_itself(stage: DockerfileStage) -> bool:
    """Whether the components run on the parent as it is."""
    return stage.base.kind is BaseKind.PARENT and not _instructions(stage)


def _instructions(stage: DockerfileStage) -> bool:
    return any(not isinstance(resolved.instruction, Placeholder) for resolved in stage.body)


def _stage_before(prepared: PreparedDockerfile, target: int) -> DockerfileStage:
    graph, _ = prepared.before_components()
    return graph.stages[target]


def _resumed(image: StageImage, before: DockerfileStage) -> StageImage:
    """The image of a stage that goes on behind its components, with what the image did not carry: its triggers,
    whether its CMD is its own, and a PATH if it had no instruction."""
    replayed = ImageConfig()
    for resolved in before.body:
        replayed = apply(replayed, resolved)
    image = image.as_parent()
    config = replace(image.config, triggers=replayed.triggers, has_own_cmd=replayed.has_own_cmd)
    return replace(image, config=config)
