"""The language of resource policies: the part of IAM's policy language that this service obeys.

    text --parse_policy--> ResourcePolicy --permits(request)--> bool
                           PolicyRefused: the element and what is expected there

An element that would be stored and not obeyed is refused by name. Only grants exist: RAM, which the service checks
policies with, has no Deny, and an account that no statement names has no access anyway (spec/api.md 4.11).
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from imagesmith.policies.conditions import Condition, ConditionRefused, read_conditions
from imagesmith.values.globs import matches

EVERYBODY: Final = "*"
_VERSIONS: Final = ("2012-10-17", "2008-10-17")
_ELEMENTS: Final = ("Sid", "Effect", "Principal", "Action", "Resource", "Condition")
_ACCOUNT: Final = re.compile(r"[0-9]{12}")
_ROOT: Final = re.compile(r"arn:aws[a-z-]{0,32}:iam::(?P<account>[0-9]{12}):root")
_IDENTITY: Final = re.compile(
    r"arn:aws[a-z-]{0,32}:(?:iam::[0-9]{12}:(?:user|role)|sts::[0-9]{12}:(?:assumed-role|federated-user))"
    r"/[\w+=,.@/-]{1,512}",
    re.ASCII,
)
_ACTION: Final = re.compile(r"[a-z0-9-]{1,64}:[A-Za-z0-9*?]{1,128}")
_MOST_PARSED: Final = 256


class PolicyRefused(ValueError):
    """A policy that is not obeyed as it is written; the message names the element."""


@dataclass(frozen=True, kw_only=True)
class AccessRequest:
    """What a caller asks for."""

    account: str
    """Of the caller, 12 digits."""
    principal: str
    """ARN of the caller's user or role, or of its account's root."""
    action: str
    """`imagebuilder:GetComponent`."""
    resource: str
    """ARN."""
    keys: Mapping[str, str]
    """Condition keys in lower case -> value; absent keys are left out."""


@dataclass(frozen=True, kw_only=True)
class Grant:
    """One statement of effect Allow."""

    principals: tuple[str, ...]
    """Account ids, ARNs of users and roles, or EVERYBODY."""
    actions: tuple[str, ...]
    """Patterns."""
    resources: tuple[str, ...]
    """Patterns."""
    conditions: tuple[Condition, ...] = ()

    def permits(self, request: AccessRequest) -> bool:
        """Whether principal, action, resource and every condition match."""
        named = {EVERYBODY, request.account, request.principal}
        return (
            not named.isdisjoint(self.principals)
            and any(matches(pattern, request.action, ignore_case=True) for pattern in self.actions)
            and any(matches(pattern, request.resource) for pattern in self.resources)
            and all(condition.holds(request.keys) for condition in self.conditions)
        )

    @property
    def is_public(self) -> bool:
        """Whether everybody has the grant: no condition fixes the account or the identity of the caller."""
        return EVERYBODY in self.principals and not any(condition.fixes_caller for condition in self.conditions)


@dataclass(frozen=True)
class ResourcePolicy:
    """A policy; without grants it shares nothing."""

    grants: tuple[Grant, ...] = ()

    def permits(self, request: AccessRequest) -> bool:
        return any(grant.permits(request) for grant in self.grants)


@functools.lru_cache(maxsize=_MOST_PARSED)
def parse_policy(text: str) -> ResourcePolicy:
    """Read a policy. Raises PolicyRefused."""
    # a stored policy is read at every request for its resource, so the last ones are kept
    listed = statements_of(policy_object(text))
    return ResourcePolicy(tuple(_grant(item, f"Statement[{index}]") for index, item in enumerate(listed)))


def statements_of(content: Mapping[str, Any]) -> list[Any]:
    """The statements of a policy, unread, after a look at the elements around them. Raises PolicyRefused."""
    known_elements(content, ("Version", "Id", "Statement"), "the policy")
    if content.get("Version") not in _VERSIONS:
        raise PolicyRefused(f"Version must be one of {', '.join(_VERSIONS)}")
    if not isinstance(content.get("Id", ""), str):
        raise PolicyRefused("Id must be a string")
    if "Statement" not in content:
        raise PolicyRefused("Statement is missing")
    statements = content["Statement"]
    return statements if isinstance(statements, list) else [statements]


def policy_object(text: str) -> Mapping[str, Any]:
    """The JSON object of a policy, in which no member appears twice. Raises PolicyRefused."""
    try:
        content = json.loads(text, object_pairs_hook=_without_repeats)
    except PolicyRefused:
        raise
    except RecursionError as error:
        raise PolicyRefused("it is nested too deep") from error
    except ValueError as error:
        raise PolicyRefused(f"it is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise PolicyRefused("it must be a JSON object with Version and Statement")
    return content


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A member that is named twice would be obeyed once."""
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        raise PolicyRefused(f"{next(name for name in names if names.count(name) > 1)!r} appears twice")
    return members


def known_elements(content: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    """Refuse elements that are not among `names`. Raises PolicyRefused."""
    unknown = sorted(set(content) - set(names))
    if unknown:
        raise PolicyRefused(f"{where} has the element {unknown[0]!r}; known elements: {', '.join(names)}")


def _grant(item: Any, where: str) -> Grant:
    if not isinstance(item, dict):
        raise PolicyRefused(f"{where} must be an object")
    known_elements(item, _ELEMENTS, where)
    if not isinstance(item.get("Sid", ""), str):
        raise PolicyRefused(f"{where}.Sid must be a string")
    if item.get("Effect") != "Allow":
        raise PolicyRefused(f"{where}.Effect must be Allow")
    actions = read_strings(item, "Action", where)
    for action in actions:
        if not _ACTION.fullmatch(action):
            raise PolicyRefused(f"{where}.Action has {action!r}, expected an action like imagebuilder:GetImage")
    resources = read_strings(item, "Resource", where)
    if any("${" in text for text in resources):
        raise PolicyRefused(f"{where}.Resource has a policy variable, and variables are not replaced here")
    try:
        conditions = read_conditions(item.get("Condition", {}), f"{where}.Condition")
    except ConditionRefused as error:
        raise PolicyRefused(str(error)) from error
    return Grant(principals=_principals(item, where), actions=actions, resources=resources, conditions=conditions)


def _principals(item: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The principals of a statement; an account's root stands for the account, as in IAM."""
    given = item.get("Principal")
    if given == EVERYBODY:
        return (EVERYBODY,)
    if not isinstance(given, dict) or set(given) != {"AWS"}:
        raise PolicyRefused(f'{where}.Principal must be an object like {{"AWS": ["123456789012"]}}')
    where = f"{where}.Principal"
    return tuple(_principal(text, f"{where}.AWS") for text in read_strings(given, "AWS", where))


def _principal(text: str, where: str) -> str:
    root = _ROOT.fullmatch(text)
    if root is not None:
        return root["account"]
    if text == EVERYBODY or _ACCOUNT.fullmatch(text) or _IDENTITY.fullmatch(text):
        return text
    raise PolicyRefused(f"{where} has {text!r}, expected an account of 12 digits or the ARN of a user or role")


def read_strings(item: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    """The string, or the list of strings, of an element. Raises PolicyRefused."""
    given = item.get(name)
    listed = [given] if isinstance(given, str) else given
    if not isinstance(listed, list) or not listed or not all(isinstance(text, str) and text for text in listed):
        raise PolicyRefused(f"{where}.{name} must be a string or a list of strings")
    return tuple(listed)


def grants_access(text: str) -> bool:
    """Whether the policy of a resource has a statement, or may have one: a text that this version cannot read."""
    try:
        return bool(parse_policy(text).grants)
    except PolicyRefused:
        return True
