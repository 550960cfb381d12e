"""Policies of access keys: which operations a key may call, on which resources, under which conditions.

    text --parse_access_policy--> AccessPolicy --permits(request)--> bool

Two forms. The short one, {"allow": ["imagebuilder:Get*"], "deny": [...]}, is about operations alone: `allow` left
out means every one. The long one is IAM's policy language without principals: Allow and Deny, Action and NotAction,
Resource and NotResource, Condition. In both an explicit denial wins over every grant, and what no statement grants
is denied. A key without a policy may do everything in its account.

In the long form a resource that a request only names, such as the component of a recipe, needs its Get operation as
well; otherwise a key could read through a recipe what it may not read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from imagesmith.policies.conditions import REQUEST_KEYS, Condition, ConditionRefused, read_conditions
from imagesmith.policies.document import (
    AccessRequest,
    PolicyRefused,
    known_elements,
    policy_object,
    read_strings,
    statements_of,
)
from imagesmith.values.globs import matches_any

LONGEST_POLICY: Final = 20_480
"""Characters of a policy."""
_ACTION: Final = re.compile(r"(?:imagebuilder:[A-Za-z*?]{1,128}|\*)")
_RESOURCE: Final = re.compile(r"\*|arn:[^\s$]{1,2000}")
_SHORT: Final = frozenset({"allow", "deny"})
_ELEMENTS: Final = ("Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition")
_MOST: Final = 100


@dataclass(frozen=True, kw_only=True)
class AccessStatement:
    """One statement: what it is about, and whether that is granted or denied."""

    denies: bool = False
    actions: tuple[str, ...] = ("*",)
    """Patterns."""
    other_actions: bool = False
    """It is about every action but these."""
    resources: tuple[str, ...] = ("*",)
    """Patterns."""
    other_resources: bool = False
    """It is about every resource but these."""
    conditions: tuple[Condition, ...] = ()

    def covers(self, request: AccessRequest) -> bool:
        """Whether action, resource and every condition match."""
        return (
            matches_any(self.actions, request.action, ignore_case=True) != self.other_actions
            and matches_any(self.resources, request.resource) != self.other_resources
            and all(condition.holds(request.keys) for condition in self.conditions)
        )


@dataclass(frozen=True, kw_only=True)
class AccessPolicy:
    """What an access key may do; without a text, everything in its account."""

    statements: tuple[AccessStatement, ...] = (AccessStatement(),)
    judges_references: bool = False
    """Whether resources that a request only names are judged too."""

    @property
    def is_unrestricted(self) -> bool:
        return self == AccessPolicy()

    def permits(self, request: AccessRequest) -> bool:
        """A denial wins; without a grant the answer is no."""
        covering = [statement.denies for statement in self.statements if statement.covers(request)]
        return bool(covering) and not any(covering)


def parse_access_policy(text: str) -> AccessPolicy:
    """Read a policy; an empty text is that of a key without one. Raises PolicyRefused."""
    if not text:
        return AccessPolicy()
    if len(text) > LONGEST_POLICY:
        raise PolicyRefused(f"it has {len(text)} characters; at most {LONGEST_POLICY} are read")
    content = policy_object(text)
    if set(content) <= _SHORT:
        return AccessPolicy(statements=_short_statements(content))
    if not set(content) & {"Version", "Statement", "Id"}:
        raise PolicyRefused('it must be an object with "allow" and "deny", or IAM\'s with Version and Statement')
    listed = statements_of(content)
    if len(listed) > _MOST:
        raise PolicyRefused(f"Statement has {len(listed)} statements; at most {_MOST} are read")
    statements = tuple(_statement(item, f"Statement[{index}]") for index, item in enumerate(listed))
    return AccessPolicy(statements=statements, judges_references=True)


def _short_statements(content: Mapping[str, Any]) -> tuple[AccessStatement, ...]:
    allowed = _patterns("allow", content.get("allow", ["*"]))
    denied = _patterns("deny", content.get("deny", []))
    granted = (AccessStatement(actions=allowed),) if allowed else ()
    return (*granted, AccessStatement(denies=True, actions=denied)) if denied else granted


def _patterns(name: str, patterns: Any) -> tuple[str, ...]:
    if not isinstance(patterns, list) or len(patterns) > _MOST:
        raise PolicyRefused(f"{name} must be a list of at most {_MOST} patterns")
    for pattern in patterns:
        if not isinstance(pattern, str) or not _ACTION.fullmatch(pattern):
            raise PolicyRefused(f'{name} contains {pattern!r}, expected a pattern like "imagebuilder:Get*"')
    return tuple(patterns)


def _statement(item: Any, where: str) -> AccessStatement:
    if not isinstance(item, dict):
        raise PolicyRefused(f"{where} must be an object")
    if "Principal" in item or "NotPrincipal" in item:
        raise PolicyRefused(f"{where} has a principal; the policy of a key is about that key alone: leave it out")
    known_elements(item, _ELEMENTS, where)
    if not isinstance(item.get("Sid", ""), str):
        raise PolicyRefused(f"{where}.Sid must be a string")
    if item.get("Effect") not in ("Allow", "Deny"):
        raise PolicyRefused(f"{where}.Effect must be Allow or Deny")
    actions, other_actions = _either(item, "Action", where)
    for action in actions:
        if not _ACTION.fullmatch(action):
            raise PolicyRefused(f"{where} has the action {action!r}, expected one like imagebuilder:GetImage")
    resources, other_resources = _either(item, "Resource", where)
    for resource in resources:
        if not _RESOURCE.fullmatch(resource):
            raise PolicyRefused(f"{where} has the resource {resource!r}, expected * or an ARN without variables")
    try:
        conditions = read_conditions(item.get("Condition", {}), f"{where}.Condition", keys=REQUEST_KEYS)
    except ConditionRefused as error:
        raise PolicyRefused(str(error)) from error
    return AccessStatement(
        denies=item["Effect"] == "Deny",
        actions=actions,
        other_actions=other_actions,
        resources=resources,
        other_resources=other_resources,
        conditions=conditions,
    )


def _either(item: Mapping[str, Any], name: str, where: str) -> tuple[tuple[str, ...], bool]:
    """The strings of an element or of its negation, and whether it is the negation."""
    negation = f"Not{name}"
    if (name in item) == (negation in item):
        raise PolicyRefused(f"{where} needs either {name} or {negation}")
    used = negation if negation in item else name
    return read_strings(item, used, where), used == negation
