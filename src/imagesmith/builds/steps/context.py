"""The arguments and the result of a step action."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from imagesmith.builds.failures import StepFailed
from imagesmith.builds.instances import instance_id
from imagesmith.builds.work import Work
from imagesmith.instances.container import ContainerInstance
from imagesmith.instances.machine.instance import MachineInstance
from imagesmith.store.build_outcome import BuildUpdate
from imagesmith.workflow_documents.document import WorkflowType

LABELS: dict[WorkflowType, str] = {"BUILD": "build", "TEST": "test", "DISTRIBUTION": "distribute"}
"""Labels of lines of the build log."""


@dataclass(frozen=True)
class Outcome:
    """The result of an action without a failure. `containers`: pushed images, as in outputResources.containers."""

    outputs: Mapping[str, Any] = field(default_factory=dict)
    skipped: bool = False
    """The action had nothing to do (spec/workflows.md 5.4)."""
    containers: Sequence[Mapping[str, Any]] = ()
    update: BuildUpdate = field(default_factory=BuildUpdate)
    """Values of the image for later work."""


@dataclass(frozen=True, kw_only=True)
class StepRun(Work):
    """The execution of a step in a run."""

    type: WorkflowType
    execution: str
    step_id: str
    step_name: str
    digest: str
    """The digest of the output image; empty in the BUILD stage."""
    seconds_left: float
    """Seconds between the start of the step and its deadline."""

    def note(self, text: str) -> None:
        self.log.line(LABELS[self.type], text)

    @property
    def command_id(self) -> str:
        """The id of the command of this step (spec/workflows.md 5.1)."""
        return self.step_id.removeprefix("step-")

    @property
    def own_instance(self) -> str:
        """The id of the instance that this step launches."""
        return instance_id(self.execution, self.step_name)

    def attach_container(self, inputs: Mapping[str, Any]) -> ContainerInstance:
        """Attach the container that the inputs name. Raises InstanceError, InstanceGone, StepFailed."""
        found = self.attach_instance(inputs)
        if not isinstance(found, ContainerInstance):
            raise StepFailed(f"{inputs['instanceId']} is a {found.kind}, and this needs a container")
        return found

    def attach_machine(self, inputs: Mapping[str, Any]) -> MachineInstance:
        """Attach the machine that the inputs name. Raises InstanceError, InstanceGone, StepFailed."""
        found = self.attach_instance(inputs)
        if not isinstance(found, MachineInstance):
            raise StepFailed(f"{inputs['instanceId']} is a {found.kind}, and this needs a machine")
        return found

    def attach_instance(self, inputs: Mapping[str, Any]) -> ContainerInstance | MachineInstance:
        """Attach the instance that the inputs name; it ends with this run and writes to the log of this step.

        An action that changes a machine in ways that the cache key does not cover calls disk_cache.forget_state.
        Raises InstanceError, InstanceGone.
        """
        found = self.worker_context.instances.use(
            str(inputs["instanceId"]), image_arn=self.plan.image_arn, cancellation=self.cancellation,
            own_names=self.type == "BUILD" and self.plan.machine is not None and self.plan.machine.no_boot,
            network=self.plan.network,
        )  # fmt: skip
        if isinstance(found, MachineInstance):
            # A machine with a deferred boot logs it in the step that needs the machine.
            found.report_to(self.note)
        return found

    def log_unused(self) -> None:
        """Log members of the request that have no effect here, before the build begins."""
        if self.plan.unused:
            self.note(f"members of the request without effect on this host: {', '.join(self.plan.unused)}")

    def output_digest(self) -> str:
        """The digest of the output image. Raises StepFailed before the build stage made one."""
        if not self.digest:
            raise StepFailed("there is no output image yet: it is made when the BUILD workflow has ended")
        return self.digest


Action = Callable[[StepRun, Mapping[str, Any]], Outcome]
"""Executes a step with its resolved inputs. Raises StepFailed, InstanceGone, Cancelled; failures of tools and of
this machine may also pass unchanged."""
