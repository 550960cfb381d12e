"""Actions on the instance itself: launch, prepare, wait for it, end it (spec/workflows.md 5.2, 5.3, 5.13, 5.14)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagesmith.artifacts.storage import StorageError
from imagesmith.builds.container import starting_image
from imagesmith.builds.failures import StepFailed
from imagesmith.builds.instances import Instances
from imagesmith.builds.steps.context import Outcome, StepRun
from imagesmith.instances.command import Command
from imagesmith.instances.container import ContainerInstance
from imagesmith.instances.machine.instance import MachineInstance
from imagesmith.instances.protocol import Instance
from imagesmith.store.build_outcome import BuildUpdate


def launch_instance(run: StepRun, inputs: Mapping[str, Any]) -> Outcome:
    """Launch a container: in BUILD on the parent with the first part of the Dockerfile, later on the output."""
    if "imageIdOverride" in inputs:
        raise StepFailed(
            f"imageIdOverride is {inputs['imageIdOverride']}: it names a machine image, and this run makes a "
            "container image; leave it out, or use it with an image recipe"
        )
    # the Dockerfile's namespace and the instance's: one program makes both
    with run.worker_context.storage.maker:
        return _launched(run)


def _launched(run: StepRun) -> Outcome:
    worker_context = run.worker_context
    update = BuildUpdate()
    if run.type == "BUILD":
        run.log_unused()
        start = starting_image(run)
        image_id = start.image_id
        update = BuildUpdate(parent=start.built_parent(), cached={run.step_name: start.cached})
    else:
        image_id = worker_context.layout.ensure_in_storage(
            worker_context.storage, run.output_digest(), cancellation=run.cancellation
        )
    with run.timed("launch"):
        instance = worker_context.instances.launch(
            run.own_instance, image_id,
            image_arn=run.plan.image_arn, execution=run.execution, cancellation=run.cancellation,
            network=run.plan.network,
            # its components may all come from earlier builds: then nothing ever runs in it
            rests=run.type == "BUILD" and run.plan.cache.components and run.plan.cache.reads,
        )  # fmt: skip
    if instance.rests:
        run.note("the instance rests until a command needs it")
    for missing in instance.unlimited:
        run.note(f"warning: {missing}")
    return Outcome({"instanceId": run.own_instance}, update=update)


def bootstrap_for_container(run: StepRun, inputs: Mapping[str, Any]) -> Outcome:
    """Check that the container runs commands; it needs no container engine inside. One that rests is asked by its
    first command, if there is one."""
    return Outcome(_answer(run, inputs))


def wait_for_agent(run: StepRun, inputs: Mapping[str, Any]) -> Outcome:
    """Check that the instance runs commands: a running machine was entered already, a deferred one is skipped."""
    if not _starts_later(run.attach_instance(inputs)):
        _answer(run, inputs)
    return Outcome({"status": "Online"})


def terminate_instance(run: StepRun, inputs: Mapping[str, Any]) -> Outcome:
    """Remove an instance; succeeds if it is gone, and the end of the build removes it after a failure."""
    wanted = str(inputs["instanceId"])
    if run.plan.keep_completed_instance:
        run.note(f"{wanted} is not terminated: terminateInstanceOnCompletion is false")
        return Outcome()
    terminate(run.worker_context.instances, wanted, run)
    return Outcome()


def terminate(instances: Instances, wanted: str, run: StepRun) -> None:
    try:
        instances.terminate(wanted, image_arn=run.plan.image_arn)
    except (StorageError, OSError) as error:
        run.note(f"warning: the instance {wanted} is not removed yet: {error}")


def _starts_later(instance: Instance) -> bool:
    """Whether the instance is a machine that boots when a command needs it."""
    return isinstance(instance, MachineInstance) and not instance.started


def _answer(run: StepRun, inputs: Mapping[str, Any]) -> Mapping[str, str]:
    instance = run.attach_instance(inputs)
    if isinstance(instance, ContainerInstance) and instance.rests:
        return {"runCommandId": run.command_id, "status": "Success", "output": ""}
    if isinstance(instance, ContainerInstance) and not instance.has_shell:
        run.note("the image has no /bin/sh: a component or command that needs to run in it will fail")
        return {"runCommandId": run.command_id, "status": "Success", "output": ""}
    done = instance.run(Command(["sh", "-c", "exit 0"], timeout=run.seconds_left))
    if done.returncode != 0:
        raise StepFailed(
            f"the instance {inputs['instanceId']} does not run commands: {done.tail(3) or done.ending}"
        )
    return {"runCommandId": run.command_id, "status": "Success", "output": ""}
