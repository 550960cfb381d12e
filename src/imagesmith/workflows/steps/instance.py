"""Actions on the instance itself: launch, prepare, wait for it, end it (spec/workflows.md 5.2, 5.3, 5.13, 5.14)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagesmith.instances.machine.instance import MachineInstance
from imagesmith.instances.protocol import Instance
from imagesmith.processes import ProcessFailed
from imagesmith.workflows.container import starting_image
from imagesmith.workflows.failures import StepFailed
from imagesmith.workflows.instances import Instances
from imagesmith.workflows.steps.context import Outcome, StepRun


def launch_instance(run: StepRun, inputs: Mapping[str, Any]) -> Outcome:
    """BUILD: a container on the parent, after the first part of the Dockerfile. Later: on the output image."""
    if "imageIdOverride" in inputs:
        raise StepFailed(
            f"imageIdOverride is {inputs['imageIdOverride']}: it names a machine image, and this run makes a "
            "container image; leave it out, or use it with an image recipe"
        )
    shop = run.shop
    facts: dict[str, Any] = {}
    if run.type == "BUILD":
        image_id, parent = starting_image(run)
        facts = {"parent": {"digest": parent.digest, "image": parent.image_id}}
    else:
        image_id = shop.layout.ensure_in_storage(shop.storage, run.output_digest(), cancellation=run.cancellation)
    with run.timed("launch"):
        instance = shop.instances.launch(
            run.own_instance, image_id,
            image_arn=run.plan.image_arn, execution=run.execution, cancellation=run.cancellation,
        )  # fmt: skip
    for missing in instance.unlimited:
        run.say(f"warning: {missing}")
    return Outcome({"instanceId": run.own_instance}, facts=facts)


def bootstrap_for_container(run: StepRun, inputs: Mapping[str, Any]) -> Outcome:
    """A container needs no engine inside; what is left to do is to see that it answers."""
    return Outcome(_answer(run, inputs))


def wait_for_agent(run: StepRun, inputs: Mapping[str, Any]) -> Outcome:
    """A container is reachable as soon as it runs; a machine that runs is entered already."""
    if not _starts_later(run.instance(inputs, changes=False)):
        _answer(run, inputs)
    return Outcome({"status": "Online"})


def terminate_instance(run: StepRun, inputs: Mapping[str, Any]) -> Outcome:
    """Remove an instance; one that is gone is no failure, and one that is not removed yet will be at the end."""
    wanted = str(inputs["instanceId"])
    if run.plan.keep_completed_instance:
        run.say(f"{wanted} is not terminated: terminateInstanceOnCompletion is false")
        return Outcome()
    terminate(run.shop.instances, wanted, run)
    return Outcome()


def terminate(instances: Instances, wanted: str, run: StepRun) -> None:
    try:
        instances.terminate(wanted, image_arn=run.plan.image_arn)
    except (ProcessFailed, OSError) as error:
        run.say(f"warning: the instance {wanted} is not removed yet: {error}")


def _starts_later(instance: Instance) -> bool:
    """A machine that starts when a command needs it is waited for then."""
    return isinstance(instance, MachineInstance) and not instance.started


def _answer(run: StepRun, inputs: Mapping[str, Any]) -> dict[str, Any]:
    done = run.instance(inputs, changes=False).run(["sh", "-c", "exit 0"], timeout=run.seconds_left)
    if done.returncode != 0:
        raise StepFailed(
            f"the instance {inputs['instanceId']} does not run commands: {done.tail(3) or done.ending}"
        )
    return {"runCommandId": run.command_id, "status": "Success", "output": ""}
