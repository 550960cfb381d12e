"""Starts and cancels lifecycle executions, for the operations and for the clock (spec/api.md 5.5)."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from imagesmith.lifecycle.daily import next_daily
from imagesmith.lifecycle.order import Order
from imagesmith.resources.call import Call, EffectKind
from imagesmith.resources.roles import planned_role
from imagesmith.store import counters, lifecycle, queries
from imagesmith.store.lifecycle import LifecycleExecution
from imagesmith.store.records import Record
from imagesmith.values.names import sha256_hex
from imagesmith.values.states import LifecycleStatus, PolicyStatus

KIND = "lifecycle-policy"


def start_execution(call: Call, subject: str, order: Order) -> LifecycleExecution:
    """Store an execution; the engine starts it after the commit. `subject`: the ARN of the policy or image."""
    number = counters.next_number(call.tx, f"{subject}/lifecycle-execution")
    execution = LifecycleExecution(
        id=execution_id(subject, number), account=call.account, region=call.region, subject=subject,
        status=LifecycleStatus.IN_PROGRESS, started=call.now, document=order.to_json(),
    )  # fmt: skip
    lifecycle.put_execution(call.tx, execution)
    if call.builds is not None:
        call.afterwards(EffectKind.START, execution.id, partial(call.builds.start, execution.id))
    return execution


def execution_id(subject: str, number: int) -> str:
    """The id of the execution with this number: `lce-` and 32 hexadecimal digits in the groups of a UUID."""
    digits = sha256_hex(f"{subject}#{number}")
    return f"lce-{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:32]}"


def cancel_executions(call: Call, subject: str) -> None:
    """Ask the executions of a policy or image that have not ended to stop."""
    for execution in lifecycle.unfinished(call.tx, subject=subject, account=call.account, region=call.region):
        cancel_execution(call, execution)


def cancel_execution(call: Call, execution: LifecycleExecution) -> None:
    """Ask an execution to stop: its current action ends, and nothing is undone."""
    lifecycle.set_status(call.tx, execution.id, LifecycleStatus.CANCELLING)
    if call.builds is not None:
        call.afterwards(EffectKind.CANCEL, execution.id, partial(call.builds.wake, execution.id))


def arm_policy(call: Call, policy: Record) -> None:
    """Set the next run of a policy, or none for a disabled one."""
    enabled = policy.status == PolicyStatus.ENABLED
    lifecycle.set_next_run(
        call.tx, policy.arn, next_daily(call.settings.lifecycle.run_at, after=call.now) if enabled else None
    )


def run_policy(call: Call, arn: str) -> LifecycleExecution | None:
    """The daily run of a policy; None if it is gone or disabled, or if its last execution has not ended."""
    policy = queries.get(call.tx, arn)
    if policy is None or policy.status != PolicyStatus.ENABLED:
        lifecycle.set_next_run(call.tx, arn, None)
        return None
    arm_policy(call, policy)
    if lifecycle.unfinished(call.tx, subject=arn, account=call.account, region=call.region):
        return None
    role = planned_role(call, policy.document["executionRole"])
    document = {**policy.document, "dateLastRun": call.stamp}
    queries.replace(call.tx, replace(policy, document=document))
    return start_execution(call, arn, Order(policy_arn=arn, policy=policy.document, role=role))
