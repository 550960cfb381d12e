"""What an execution was asked to do: the policy as it was at the start, or the update of one image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from imagesmith.lifecycle.policy import AmiExclusions, Include, LifecyclePolicy, Rule
from imagesmith.recipes.plan import PlannedRole
from imagesmith.values.names import parse_instant
from imagesmith.values.states import LifecycleAction


@dataclass(frozen=True, kw_only=True)
class StateUpdate:
    """The members of StartResourceStateUpdate."""

    image_arn: str
    action: LifecycleAction
    include: Mapping[str, Any] = field(default_factory=dict)
    exclusions: Mapping[str, Any] = field(default_factory=dict)
    """The member `amis` of exclusionRules."""
    update_at: str = ""
    """ISO 8601; empty: now."""

    @property
    def rule(self) -> Rule:
        return Rule(
            action=self.action,
            age=None,
            retained=0,
            include=Include.from_document(self.include),
            excluded_tags={},
            excluded_amis=AmiExclusions.from_document(self.exclusions),
        )

    @property
    def moment(self) -> datetime | None:
        """The later time of the change."""
        return parse_instant(self.update_at) if self.update_at else None


@dataclass(frozen=True, kw_only=True)
class Order:
    """One of `policy` and `update` is set."""

    policy_arn: str = ""
    policy: Mapping[str, Any] = field(default_factory=dict)
    """The document of the policy."""
    update: StateUpdate | None = None
    role: PlannedRole | None = None
    """The rights of the execution; None withholds nothing."""

    @property
    def rules(self) -> tuple[Rule, ...]:
        return (self.update.rule,) if self.update else LifecyclePolicy.from_document(self.policy).rules

    def to_json(self) -> Mapping[str, Any]:
        return {
            "policyArn": self.policy_arn,
            "policy": dict(self.policy),
            "update": {**vars(self.update)} if self.update else None,
            "role": {**vars(self.role)} if self.role else None,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Order:
        update = data.get("update")
        if update:
            update = {**update, "action": LifecycleAction(update["action"])}
        return cls(
            policy_arn=data.get("policyArn", ""),
            policy=data.get("policy", {}),
            update=StateUpdate(**update) if update else None,
            role=PlannedRole.from_json(data["role"]) if data.get("role") else None,
        )
