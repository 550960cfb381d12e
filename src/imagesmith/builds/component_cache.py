"""Components of container builds that earlier builds have carried out: their layers are used again.

    instance --layers--> component 1 --layers--> component 2 --> ...
                         hit: the instance goes on over the layers of the result
                         miss: it runs, and its changes become a layer

Only a run that asks for it (resources/run_tags.py) uses this, for it changes what components see: only the
variables that their documents name (component_inputs.py), and no process, shared memory or message queue of the
component before, because the sandbox ends with each. Outputs of steps are seen in their own document only, so
nothing else of a component is missed by those behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime

from imagesmith.artifacts.cache_use import CachedStep, CacheUse, Layers, StepInputs
from imagesmith.builds.component_inputs import component_inputs, reason_not_to_keep, visible_variables
from imagesmith.builds.work import Work
from imagesmith.instances.container import ContainerInstance
from imagesmith.layers.layer_rules import LayerRules
from imagesmith.recipes.plan import PlannedComponent
from imagesmith.values.arn import Arn


@dataclass(frozen=True)
class ComponentCache:
    """The components of one step on one instance."""

    work: Work
    use: CacheUse
    instance: ContainerInstance
    environment: Mapping[str, str]
    """What components see whose results are not kept, unless the build is reproducible."""
    rules: LayerRules | None = None
    """Of a reproducible build: every component has a layer of its own, cached or not."""

    def perform(
        self, components: Sequence[PlannedComponent], run: Callable[[int, Mapping[str, str]], None]
    ) -> None:
        """Carry out the components in their order; `run` runs the one of an index with the variables that it sees.

        Raises InstanceError, Cancelled, and what `run` raises.
        """
        with ExitStack() as held:
            state = _State(self.instance, held, self.rules)
            for index, component in enumerate(components):
                label = f"component {index + 1} of {len(components)} ({Arn.parse(component.arn).path})"

                def tell(text: str, label: str = label) -> None:
                    self.work.log.line("cache", f"{label}: {text}")

                self._one(component, index, state, tell, run)
            state.enter()

    def _one(
        self, component: PlannedComponent, index: int, state: _State, tell: Callable[[str], None],
        run: Callable[[int, Mapping[str, str]], None],
    ) -> None:  # fmt: skip
        reason = reason_not_to_keep(component)
        seen = visible_variables(component, self.environment)
        if reason:
            tell(f"not cached: {reason}")
            state.changed(lambda: run(index, self.environment if self.rules is None else seen))
            return
        if not (self.use.cache.is_on and self.work.plan.cache.components):
            state.changed(lambda: run(index, seen))
            return
        step = self._step(component, seen, index, state.layers, tell)
        step.perform(state.adopt, carry_out=lambda: state.changed(lambda: run(index, seen)))

    def _step(
        self, component: PlannedComponent, seen: Mapping[str, str], index: int, lower: Layers,
        tell: Callable[[str], None],
    ) -> CachedStep:  # fmt: skip
        now = self.work.worker_context.clock()
        inputs = StepInputs(component_inputs(component, seen, now=now), networked=self.instance.network != "none")
        return CachedStep(
            self.use, self.instance.storage, inputs,
            name=f"component {Arn.parse(component.arn).path}", step=f"component {index}",
            lower=lower, tell=tell, check=self.work.cancellation.check,
        )  # fmt: skip


class _State:
    """The layers that an instance has, or will have as soon as a component runs in it."""

    def __init__(self, instance: ContainerInstance, held: ExitStack, rules: LayerRules | None) -> None:
        self._instance = instance
        self._rules = rules
        self._held = held
        self._waits = False
        self.layers: Layers = instance.commit_layers(rules)

    def adopt(self, layers: Layers, _made: datetime) -> None:
        self._held.enter_context(self._instance.storage.lease(layers))
        self._waits = self._waits or layers != self.layers
        self.layers = layers

    def enter(self) -> None:
        """Let the instance have the layers. Raises InstanceError."""
        if self._waits:
            self._instance.replace_layers(self.layers)
            self._waits = False

    def changed(self, run: Callable[[], None]) -> Layers:
        """Run something in the instance, and make a layer of its changes; returns all layers behind it."""
        self.enter()
        run()
        self.layers = self._instance.commit_layers(self._rules)
        return self.layers
