"""One build for each action that a container can have, caught in a step of it that is called Work.

catch_in["RunCommand"](forge) --> Held: waits in the step --kill, start--> let_go(): it may end
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from imagesmith.build_logs.logs import step_log_path
from testing.crash_support import is_waited_for, nothing
from testing.pipeline_support import HOLD, TEMPLATE, Forge, eventually, held, release
from testing.vulnerable import debian
from testing.workflow_support import (
    INSTANCE,
    TEST,
    TEST_LAUNCH,
    answer,
    build_document,
    executions,
    run_with,
    shell,
    steps,
    waiting,
    workflow,
)  # fmt: skip

WORK: Final = "Work"
BEGINS_AGAIN: Final = "the server stopped during Work; attempt 2 begins"
BEGINS_ANEW: Final = "the server stopped during Work and lost its instance; the workflow starts again"

# every shell that starts in the instance waits, once the file of the step before is there
_SLOW_SHELL: Final = """\
cp /usr/bin/sh /usr/bin/realsh
printf '%s\\n' '#!/usr/bin/realsh' {wait} 'exec /usr/bin/realsh "$@"' > /usr/bin/slow
chmod 755 /usr/bin/slow; mv /usr/bin/slow /usr/bin/sh
"""


@dataclass(frozen=True)
class Held:
    """A build that is in the step; what its log says after the server was killed there, if anything."""

    arn: str
    let_go: Callable[[], None]
    said: str = BEGINS_ANEW
    enter: Callable[[], None] = nothing
    """Go on into the step, from just before it."""
    died: Callable[[], None] = nothing
    """Take away what held the step, when the server is dead."""


def _on_instance(action: str) -> str:
    return f"  - {{name: {WORK}, action: {action}, inputs: {{{INSTANCE}}}}}\n"


def _in_build(forge: Forge, document: str, *, recipe: str = "") -> str:
    return run_with(forge, workflow(forge, "BUILD", build_document(document)), recipe=recipe)


def _held(forge: Forge, name: str, arn: str, said: str = BEGINS_ANEW) -> Held:
    held(name)
    return Held(arn, lambda: release(name), said)


def _running(forge: Forge, arn: str) -> None:
    """Wait until the step of a build runs."""

    def probe() -> bool:
        found = [steps(forge, item["workflowExecutionId"]).get(WORK, {}) for item in executions(forge, arn)]
        return any(step.get("status") == "RUNNING" for step in found)

    eventually(probe, f"{WORK} of {arn} runs", seconds=90)


def _launch(forge: Forge) -> Held:
    name = forge.name("launch")
    template = TEMPLATE.replace("{{{ imagebuilder:components }}}", f"RUN {HOLD.format(name=name)}")
    recipe = forge.recipe(forge.component(build="true"), dockerfileTemplateData=template)
    document = (
        build_document("").replace("Launch\n", f"{WORK}\n").replace("stepOutputs.Launch", f"stepOutputs.{WORK}")
    )
    return _held(forge, name, run_with(forge, workflow(forge, "BUILD", document), recipe=recipe), BEGINS_AGAIN)


def _slow_shell(action: str) -> Callable[[Forge], Held]:
    def catch(forge: Forge) -> Held:
        name = forge.name("shell")
        wait = HOLD.format(name=name).replace("sh -c", "realsh -c").replace("'", '"')
        command = _SLOW_SHELL.format(wait=f"'{wait}'")
        return _held(forge, name, _in_build(forge, shell("Before", command) + _on_instance(action)))

    return catch


def _components(forge: Forge) -> Held:
    name = forge.name("components")
    recipe = forge.recipe(forge.component(build=HOLD.format(name=name)))
    return _held(forge, name, _in_build(forge, _on_instance("ExecuteComponents"), recipe=recipe))


def _command(forge: Forge) -> Held:
    name = forge.name("command")
    return _held(forge, name, _in_build(forge, shell(WORK, HOLD.format(name=name))))


def _metadata(forge: Forge) -> Held:
    """Reading a long list of packages takes a moment, in which the server must be killed: it is entered last."""
    name = forge.name("metadata")
    lines = "mkdir -p /var/lib/dpkg; yes 'Description: a line that nobody wants' | head -c 60000000"
    arn = _in_build(
        forge,
        shell("Before", f"{lines} > /var/lib/dpkg/status; {HOLD.format(name=name)}")
        + _on_instance("CollectImageMetadata")
        + shell("After", "rm /var/lib/dpkg/status"),
    )
    caught = _held(forge, name, arn)

    def enter() -> None:
        (execution,) = executions(forge, arn)
        log = step_log_path(forge.server.data_dir / "logs", arn, execution["workflowExecutionId"], WORK)
        release(name)
        eventually(log.exists, "the step begins", pause=0.001)

    return replace(caught, enter=enter)


def _terminate(forge: Forge) -> Held:
    """The removal of a container waits for the lock of the storage."""
    name = forge.name("terminate")
    document = TEST + TEST_LAUNCH + shell("Before", HOLD.format(name=name)) + _on_instance("TerminateInstance")
    arn = run_with(forge, workflow(forge, "TEST", document))
    caught = _held(forge, name, arn)
    lock = forge.server.data_dir / "containers" / "lock"
    locks: list[int] = []

    def enter() -> None:
        locks.append(os.open(lock, os.O_RDWR | os.O_CLOEXEC))
        fcntl.flock(locks[0], fcntl.LOCK_EX)
        release(name)
        eventually(lambda: is_waited_for(locks[0]), "a container is removed")

    return replace(caught, enter=enter, died=lambda: os.close(locks.pop()))


def _scan(forge: Forge) -> Held:
    test = TEST + TEST_LAUNCH + _on_instance("CollectImageScanFindings")
    build = build_document(_on_instance("ExecuteComponents").replace(WORK, "Components"))
    arn = run_with(
        forge, workflow(forge, "BUILD", build), workflow(forge, "TEST", test), recipe=forge.recipe(debian(forge)),
        imageScanningConfiguration={"imageScanningEnabled": True},
    )  # fmt: skip
    _running(forge, arn)
    return Held(arn, nothing)


def _distribution(forge: Forge) -> Held:
    document = TEST + TEST_LAUNCH + _on_instance("DistributeContainerImage")
    arn = run_with(forge, workflow(forge, "DISTRIBUTION", document))
    _running(forge, arn)
    return Held(arn, nothing)


def _state_machine(forge: Forge) -> Held:
    hook = forge.server.data_dir.parent / "hook.sh"
    inputs = json.dumps({"stateMachineArn": "arn:aws:states:us-east-1:000000000000:stateMachine:slow"})
    step = f"  - {{name: {WORK}, action: ExecuteStateMachine, inputs: {inputs}}}\n"
    arn = run_with(forge, workflow(forge, "TEST", TEST + step))
    eventually(hook.with_suffix(".sh.calls").exists, "the hook is called", seconds=90)
    return Held(arn, hook.with_suffix(".sh.go").touch, BEGINS_AGAIN)


def _wait(forge: Forge) -> Held:
    arn = run_with(forge, workflow(forge, "TEST", f"{TEST}  - {{name: {WORK}, action: WaitForAction}}\n"))
    step = waiting(forge, arn)
    # answered through the server that runs then
    return Held(arn, lambda: answer(forge.server.forge, step), said="")


CATCH_IN: Final[Mapping[str, Callable[[Forge], Held]]] = {
    "LaunchInstance": _launch,
    "BootstrapInstanceForContainer": _slow_shell("BootstrapInstanceForContainer"),
    "WaitForSSMAgent": _slow_shell("WaitForSSMAgent"),
    "ExecuteComponents": _components,
    "RunCommand": _command,
    "ExecuteStateMachine": _state_machine,
    "WaitForAction": _wait,
    "CollectImageScanFindings": _scan,
    "DistributeContainerImage": _distribution,
    "TerminateInstance": _terminate,
    "CollectImageMetadata": _metadata,
}
"""In the order in which they are entered, while the gate of the registry is shut."""
