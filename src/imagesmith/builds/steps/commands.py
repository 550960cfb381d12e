"""RunCommand: command documents on an instance (spec/workflows.md 5.9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imagesmith.builds import disk_cache
from imagesmith.builds.failures import StepFailed
from imagesmith.builds.steps.context import Outcome, StepRun
from imagesmith.instances.command import Command
from imagesmith.processes import Completed

_SHELLS = {
    "AWS-RunShellScript": ("sh", "-c"),
    "AWS-RunPowerShellScript": ("pwsh", "-NoProfile", "-NonInteractive", "-Command"),
}
_AGENT = "AWS-UpdateSSMAgent"
_KNOWN = {
    **{name: frozenset({"commands", "workingDirectory", "executionTimeout"}) for name in _SHELLS},
    _AGENT: frozenset({"allowDowngrade", "version"}),
}
_LONGEST = 172800
"""Greatest `executionTimeout` in seconds."""
_OUTPUT_BYTES = 48 * 1024
_TAIL_LINES = 12


def run_command(run: StepRun, inputs: Mapping[str, Any]) -> Outcome:
    """Run the script of a command document as root in the instance; its last exit status decides."""
    name = str(inputs["documentName"])
    parameters: Mapping[str, Sequence[str]] = inputs.get("parameters", {})
    _check(name, parameters)
    instance = run.attach_instance(inputs)
    if name == _AGENT:
        run.note(f"{name}: a container has no agent, there is nothing to update")
        return Outcome({"runCommandId": run.command_id, "status": "Success", "output": [""]})
    disk_cache.forget_state(instance)
    script = "\n".join(parameters["commands"])
    limit = _seconds(parameters)
    receive, flush = run.log.sink("command")
    try:
        command = Command(
            [*_SHELLS[name], script], cwd=_first(parameters, "workingDirectory") or None,
            timeout=min(limit, run.seconds_left), limit=_OUTPUT_BYTES,
        )  # fmt: skip
        done = instance.run(command, receive)
    finally:
        flush()
    output = [done.stdout.decode(errors="replace").removesuffix("\n")]
    status = "TimedOut" if done.timed_out else "Success" if done.returncode == 0 else "Failed"
    outputs = {"runCommandId": run.command_id, "status": status, "output": output}
    if status != "Success":
        raise StepFailed(_words(name, status, done), outputs=outputs)
    return Outcome(outputs)


def _check(name: str, parameters: Mapping[str, Sequence[str]]) -> None:
    if name not in _KNOWN:
        raise StepFailed(f"there is no command document '{name}'; known here: {', '.join(sorted(_KNOWN))}")
    unknown = sorted(set(parameters) - _KNOWN[name])
    if unknown:
        raise StepFailed(
            f"the document {name} has no parameter '{unknown[0]}'; it takes: {', '.join(sorted(_KNOWN[name]))}"
        )
    if name in _SHELLS and not parameters.get("commands"):
        raise StepFailed(f"the document {name} needs the parameter 'commands'")


def _seconds(parameters: Mapping[str, Sequence[str]]) -> float:
    text = _first(parameters, "executionTimeout") or "3600"
    if not text.isdecimal() or not 1 <= int(text) <= _LONGEST:
        raise StepFailed(f"executionTimeout is '{text}': expected seconds from 1 to {_LONGEST}")
    return float(text)


def _first(parameters: Mapping[str, Sequence[str]], name: str) -> str:
    return next(iter(parameters.get(name, ())), "")


def _words(name: str, status: str, done: Completed) -> str:
    tail = done.tail(_TAIL_LINES)
    return f"the command {name} is {status} ({done.ending})" + (f"\nLast output:\n{tail}" if tail else "")
