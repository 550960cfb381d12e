"""State machines, topics and functions: programs of this machine or URLs, named in the settings.

    [hooks."arn:aws:states:eu-west-1:123456789012:stateMachine:approve"]
    command = ["/usr/local/bin/approve"]          # or  url = "https://..."

A hook gets JSON: a program on its standard input, a URL in the body of a POST.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import urllib3

from imagesmith import processes
from imagesmith.builds.failures import StepFailed
from imagesmith.builds.steps.context import Outcome, StepRun
from imagesmith.processes import Cancellation
from imagesmith.settings import Hook, Settings

_ANSWER_BYTES = 256 * 1024
_NOTICE_SECONDS = 60.0
_CONNECT_SECONDS = 10.0
_WORDS = 500


class HookFailed(Exception):
    """A hook could not be called, or reported a failure; the text has its last output."""


def execute_state_machine(run: StepRun, inputs: Mapping[str, Any]) -> Outcome:
    """Call the hook that replaces a state machine and wait for its end (spec/workflows.md 5.16)."""
    arn = str(inputs["stateMachineArn"])
    hook = find_hook(run.worker_context.settings, arn, "state machine")
    execution = f"{arn.replace(':stateMachine:', ':execution:')}:{run.command_id}"
    data = str(inputs.get("input", "{}"))
    run.worker_context.check_fence()
    try:
        answer = call_hook(hook, data.encode(), seconds=run.seconds_left, cancellation=run.cancellation)
    except HookFailed as error:
        message = (
            "ExpectationNotMet. stepfunctions:DescribeExecution returned terminal state FAILED: "
            f"{str(error)[:_WORDS]}"
        )
        outputs = {
            "executionArn": execution,
            "status": "FAILED",
            "error": "HookFailed",
            "cause": str(error)[:_WORDS],
        }
        raise StepFailed(message, outputs=outputs) from error
    return Outcome({"executionArn": execution, "output": _json_text(answer), "status": "SUCCEEDED"})


def notify(run: StepRun, inputs: Mapping[str, Any], message: Mapping[str, Any]) -> None:
    """Notify the topic and the function of a waiting step (spec/workflows.md 8.1). Raises StepFailed, Cancelled."""
    for name, what in (("snsTopicArn", "topic"), ("lambdaFunctionName", "function")):
        target = str(inputs.get(name, ""))
        if not target:
            continue
        hook = find_hook(run.worker_context.settings, target, what)
        run.worker_context.check_fence()
        try:
            call_hook(hook, json.dumps(message).encode(), seconds=_NOTICE_SECONDS, cancellation=run.cancellation)
        except HookFailed as error:
            raise StepFailed(f"the {what} {target} could not be notified that the step waits: {error}") from error


def find_hook(settings: Settings, name: str, what: str) -> Hook:
    """The hook of an ARN, or of the name at its end. Raises StepFailed."""
    hook = settings.hooks.get(name) or settings.hooks.get(name.rpartition(":")[2])
    if hook is None:
        raise StepFailed(f'there is no hook for the {what} {name}; add [hooks."{name}"] to the settings')
    return hook


def call_hook(hook: Hook, data: bytes, *, seconds: float, cancellation: Cancellation) -> bytes:
    """Call a hook; returns its answer. Raises HookFailed, Cancelled."""
    cancellation.check()
    return _run(hook, data, seconds, cancellation) if hook.command else _post(hook, data, seconds)


def _run(hook: Hook, data: bytes, seconds: float, cancellation: Cancellation) -> bytes:
    try:
        done = processes.run(
            hook.command, input=data, timeout=seconds, cancellation=cancellation, limit=_ANSWER_BYTES, tree=True
        )
    except OSError as error:
        raise HookFailed(f"{hook.command[0]} cannot be run: {error}") from error
    if done.timed_out or done.returncode != 0:
        raise HookFailed(f"{done.command}: {done.ending}\n{done.tail(5)}".rstrip())
    return done.stdout


def _post(hook: Hook, data: bytes, seconds: float) -> bytes:
    try:
        with urllib3.PoolManager(timeout=urllib3.Timeout(connect=_CONNECT_SECONDS, read=seconds)) as http:
            answer = http.request(
                "POST", hook.url, body=data, headers={"Content-Type": "application/json"},
                redirect=False, retries=False, preload_content=False,
            )  # fmt: skip
            body: bytes = answer.read(_ANSWER_BYTES)
            answer.release_conn()
    except urllib3.exceptions.HTTPError as error:
        raise HookFailed(f"POST {hook.url}: {error}") from error
    if not 200 <= answer.status < 300:
        raise HookFailed(f"POST {hook.url}: status {answer.status}: {body[:_WORDS].decode(errors='replace')}")
    return body


def _json_text(answer: bytes) -> str:
    """The answer as JSON text; other text becomes a JSON string."""
    text = answer.decode(errors="replace").strip() or "{}"
    try:
        json.loads(text)
    except ValueError:
        return json.dumps(text)
    return text
