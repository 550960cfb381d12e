"""What a step action is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from imagesmith.instances.container import ContainerInstance
from imagesmith.instances.machine.instance import MachineInstance
from imagesmith.instances.protocol import Instance
from imagesmith.workflows.document import WorkflowType
from imagesmith.workflows.failures import StepFailed
from imagesmith.workflows.instances import instance_id
from imagesmith.workflows.work import Work

LABELS: dict[WorkflowType, str] = {"BUILD": "build", "TEST": "test", "DISTRIBUTION": "distribute"}
"""What lines of the build log begin with."""


@dataclass(frozen=True)
class Outcome:
    """How an action ended that did not fail. `containers`: what it pushed, as in outputResources.containers."""

    outputs: Mapping[str, Any] = field(default_factory=dict)
    skipped: bool = False
    """There was nothing to do (5.4)."""
    containers: Sequence[Mapping[str, Any]] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What became known of the image, for later work."""


@dataclass(frozen=True, kw_only=True)
class StepRun(Work):
    """One step of one run."""

    type: WorkflowType
    execution: str
    step_id: str
    step_name: str
    digest: str
    """Of the output image; empty in the BUILD stage."""
    seconds_left: float
    """Until the step's deadline, when it began."""

    def say(self, text: str) -> None:
        self.log.line(LABELS[self.type], text)

    @property
    def command_id(self) -> str:
        """The id of the command of this step (5.1)."""
        return self.step_id.removeprefix("step-")

    @property
    def own_instance(self) -> str:
        """The id of an instance that this step launches."""
        return instance_id(self.execution, self.step_name)

    def container(self, inputs: Mapping[str, Any]) -> ContainerInstance:
        """The container that the inputs name. Raises InstanceError, InstanceGone, StepFailed."""
        found = self.instance(inputs)
        if not isinstance(found, ContainerInstance):
            raise StepFailed(f"{inputs['instanceId']} is a {found.kind}, and this needs a container")
        return found

    def machine(self, inputs: Mapping[str, Any]) -> MachineInstance:
        """The machine that the inputs name, for an action that says itself what it makes of the machine's state.

        Raises InstanceError, InstanceGone, StepFailed.
        """
        found = self._named(inputs)
        if not isinstance(found, MachineInstance):
            raise StepFailed(f"{inputs['instanceId']} is a {found.kind}, and this needs a machine")
        return found

    def instance(self, inputs: Mapping[str, Any], *, changes: bool = True) -> Instance:
        """The instance that the inputs name. Raises InstanceError, InstanceGone.

        `changes`: what is done to it may change it in ways that no key of the cache tells.
        """
        found = self._named(inputs)
        if changes and isinstance(found, MachineInstance):
            found.state = None
        return found

    def _named(self, inputs: Mapping[str, Any]) -> ContainerInstance | MachineInstance:
        found = self.shop.instances.use(
            str(inputs["instanceId"]), image_arn=self.plan.image_arn, cancellation=self.cancellation
        )
        if isinstance(found, MachineInstance):
            # One that starts later than its launch says so in the log of the step that needs it.
            found.on_line = self.say
        return found

    def output_digest(self) -> str:
        """The image that the build stage made. Raises StepFailed before there is one."""
        if not self.digest:
            raise StepFailed("there is no output image yet: it is made when the BUILD workflow has ended")
        return self.digest


Action = Callable[[StepRun, Mapping[str, Any]], Outcome]
"""Carries out a step with its resolved inputs. Raises StepFailed, InstanceGone, Cancelled; failures of tools and
of this machine may also come through as they are."""
