"""Carries out the instructions that write files, or takes what an earlier build made of the same."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from imagesmith.artifacts.cache_use import CachedStep, CacheUse, Layers, StepInputs
from imagesmith.dockerfile_builds.image_config import ImageConfig
from imagesmith.dockerfile_builds.stage_build import StageBuild
from imagesmith.dockerfiles.stages import ResolvedInstruction
from imagesmith.layers.overlay_mounts import MOST_LAYERS

_ROOM_FOR_LAYERS: Final = 20
"""Layers that a build leaves to components and to images on it; beyond them instructions share a layer."""


class CachedSteps:
    """The instructions of one build."""

    def __init__(self, use: CacheUse | None) -> None:
        self._use = use

    def perform(
        self, stage: StageBuild, resolved: ResolvedInstruction, *, before: ImageConfig, step: str,
        inputs: Callable[[], StepInputs | str], carry_out: Callable[[], None],
    ) -> None:  # fmt: skip
        """Carry out an instruction that writes files, and note it in the history. `inputs` returns a sentence for
        one whose result is never kept. Raises DockerfileFailed, InstanceError, Cancelled."""
        use, context = self._use, stage.context

        def work() -> None:
            carry_out()
            stage.note(resolved, before, writes_files=True)

        def made() -> Layers:
            work()
            stage.end_layer()
            return stage.layers

        def adopt(layers: Layers, made: datetime) -> None:
            stage.note(resolved, before, writes_files=True, created=made)
            stage.adopt(layers)

        if len(stage.layers) >= MOST_LAYERS - _ROOM_FOR_LAYERS:
            work()
            return
        if use is None or not use.cache.is_on:
            # a reproducible image has the same layers, whether there is a cache or not
            made() if context.rules is not None else work()
            return
        known = inputs()
        if isinstance(known, str):
            context.tell(f"not cached: {known}")
            made()
            return
        item = resolved.instruction
        cached = CachedStep(
            use, context.storage, known, name=f"{item.name} in line {item.position.line}", step=step,
            lower=stage.layers, tell=context.tell, check=context.check,
        )  # fmt: skip
        cached.perform(adopt, carry_out=made)
