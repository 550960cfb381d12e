"""The element Condition of a policy: operators, and the keys that this service has values for.

    {"StringEquals": {"aws:PrincipalAccount": ["111122223333", "444455556666"]}}
      operator         key                     any of these values; all keys and operators must hold

The rules are IAM's: a missing key makes a condition false, and a negated or `IfExists` condition true; keys are
compared without upper and lower case.
"""

from __future__ import annotations

import ipaddress
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from imagesmith.values.globs import matches

RESOURCE_TAG: Final = "aws:resourcetag/"
_IF_EXISTS: Final = "IfExists"
_NULL: Final = "Null"
_QUALIFIER: Final = re.compile(r"(?:(?P<qualifier>ForAllValues|ForAnyValue):)?(?P<operator>[A-Za-z]+)")
_MOST_VALUES: Final = 1000


class ConditionRefused(ValueError):
    """A condition that is not obeyed as it is written; the message names operator, key or value."""


class KeyKind(StrEnum):
    """The kinds of values of condition keys, in the words of messages."""

    STRING = "a string"
    ARN = "an ARN"
    TIME = "a time"
    ADDRESS = "an IP address"
    BOOLEAN = "true or false"


REQUEST_KEYS: Final = MappingProxyType(
    {
        "aws:PrincipalAccount": KeyKind.STRING,
        "aws:PrincipalArn": KeyKind.ARN,
        "aws:RequestedRegion": KeyKind.STRING,
        "aws:CurrentTime": KeyKind.TIME,
        "aws:EpochTime": KeyKind.TIME,
        "aws:SourceIp": KeyKind.ADDRESS,
        "aws:SecureTransport": KeyKind.BOOLEAN,
    }
)
"""The keys that a request has before its resource is looked up, for policies of access keys."""
RESOURCE_KEYS: Final = MappingProxyType(
    {
        "aws:PrincipalAccount": KeyKind.STRING,
        "aws:PrincipalArn": KeyKind.ARN,
        "aws:RequestedRegion": KeyKind.STRING,
        "aws:ResourceAccount": KeyKind.STRING,
        "aws:CurrentTime": KeyKind.TIME,
        "aws:EpochTime": KeyKind.TIME,
        "aws:ResourceTag/KEY": KeyKind.STRING,
    }
)
"""The keys of a request for a resource, for policies of resources."""
_CALLER: Final = frozenset({"aws:principalaccount", "aws:principalarn"})


def _same(value: str, wanted: str) -> bool:
    return value == wanted


def _same_folded(value: str, wanted: str) -> bool:
    return value.casefold() == wanted.casefold()


def _like(value: str, wanted: str) -> bool:
    return matches(wanted, value)


def _like_arn(value: str, wanted: str) -> bool:
    """Each of the six parts of an ARN matches alone, so that `*` does not cross a colon of the first five."""
    parts, patterns = value.split(":", 5), wanted.split(":", 5)
    return len(parts) == len(patterns) == 6 and all(map(matches, patterns, parts))


def _time(text: str) -> float:
    """Seconds since the epoch, of a number or a date in ISO 8601. Raises ValueError."""
    if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", text):
        return float(text)
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def _in_network(value: str, wanted: str) -> bool:
    """Whether the address is, or is in, the wanted address or network; an IPv4 address may come in IPv6 form."""
    address = ipaddress.ip_address(value)
    plain = getattr(address, "ipv4_mapped", None) or address
    return plain in ipaddress.ip_network(wanted, strict=False)


def _by_time(compare: Callable[[float, float], bool]) -> Callable[[str, str], bool]:
    return lambda value, wanted: compare(_time(value), _time(wanted))


@dataclass(frozen=True)
class _Operator:
    """A comparison of a key's value with one value of the policy."""

    kinds: frozenset[KeyKind]
    compare: Callable[[str, str], bool]
    negated: bool = False
    exact: bool = False
    """It holds for the written values alone."""


_TEXT: Final = frozenset({KeyKind.STRING, KeyKind.ARN})
_ARN: Final = frozenset({KeyKind.ARN})
_TIME: Final = frozenset({KeyKind.TIME})
_TIMES: Final = MappingProxyType(
    {
        "Equals": _Operator(_TIME, _by_time(operator.eq)),
        "NotEquals": _Operator(_TIME, _by_time(operator.eq), negated=True),
        "LessThan": _Operator(_TIME, _by_time(operator.lt)),
        "LessThanEquals": _Operator(_TIME, _by_time(operator.le)),
        "GreaterThan": _Operator(_TIME, _by_time(operator.gt)),
        "GreaterThanEquals": _Operator(_TIME, _by_time(operator.ge)),
    }
)

_OPERATORS: Final = MappingProxyType(
    {
        "StringEquals": _Operator(_TEXT, _same, exact=True),
        "StringNotEquals": _Operator(_TEXT, _same, negated=True),
        "StringEqualsIgnoreCase": _Operator(_TEXT, _same_folded),
        "StringNotEqualsIgnoreCase": _Operator(_TEXT, _same_folded, negated=True),
        "StringLike": _Operator(_TEXT, _like),
        "StringNotLike": _Operator(_TEXT, _like, negated=True),
        "ArnEquals": _Operator(_ARN, _like_arn, exact=True),
        "ArnLike": _Operator(_ARN, _like_arn, exact=True),
        "ArnNotEquals": _Operator(_ARN, _like_arn, negated=True),
        "ArnNotLike": _Operator(_ARN, _like_arn, negated=True),
        # the time of a request is a date and a number of seconds
        **{f"Date{name}": compared for name, compared in _TIMES.items()},
        **{f"Numeric{name}": compared for name, compared in _TIMES.items()},
        "IpAddress": _Operator(frozenset({KeyKind.ADDRESS}), _in_network),
        "NotIpAddress": _Operator(frozenset({KeyKind.ADDRESS}), _in_network, negated=True),
        "Bool": _Operator(frozenset({KeyKind.BOOLEAN}), _same),
    }
)
"""IAM's operators for the kinds of keys that exist here."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One operator on one key."""

    operator: str
    """A name of the table, or `Null`."""
    key: str
    """In lower case."""
    values: tuple[str, ...]
    if_exists: bool = False
    for_all: bool = False
    """Qualifier ForAllValues: true without the key, since every one of no values matches."""

    def holds(self, keys: Mapping[str, str]) -> bool:
        """Whether the condition is true for the keys of a request."""
        value = keys.get(self.key)
        if self.operator == _NULL:
            return ("true" if value is None else "false") in self.values
        rule = _OPERATORS[self.operator]
        if value is None:
            return rule.negated or self.if_exists or self.for_all
        return rule.negated != any(rule.compare(value, wanted) for wanted in self.values)

    @property
    def fixes_caller(self) -> bool:
        """Whether only callers that the policy names satisfy it."""
        rule = _OPERATORS.get(self.operator)
        if rule is None or not rule.exact or self.if_exists or self.for_all:
            return False
        return self.key in _CALLER and not any(mark in value for value in self.values for mark in "*?")


def read_conditions(
    given: Any, where: str, *, keys: Mapping[str, KeyKind] = RESOURCE_KEYS
) -> tuple[Condition, ...]:
    """The conditions of a statement; `keys`: those that a request has here. Raises ConditionRefused."""
    if not isinstance(given, dict):
        raise ConditionRefused(f"{where} must be an object")
    found: list[Condition] = []
    for name, wanted in given.items():
        if not isinstance(wanted, dict) or not wanted:
            raise ConditionRefused(f"{where}.{name} must be an object of keys and values")
        found += [_condition(name, key, values, f"{where}.{name}", keys) for key, values in wanted.items()]
    return tuple(found)


def _kind(key: str, keys: Mapping[str, KeyKind]) -> KeyKind | None:
    """What the values of a key are; None when a request has no such key."""
    folded = {name.lower(): kind for name, kind in keys.items()}
    if f"{RESOURCE_TAG}key" in folded and key.startswith(RESOURCE_TAG):
        return KeyKind.STRING if key != RESOURCE_TAG else None
    return folded.get(key)


def _condition(written: str, key: str, given: Any, where: str, keys: Mapping[str, KeyKind]) -> Condition:
    parts = _QUALIFIER.fullmatch(written)
    name = parts["operator"] if parts is not None else ""
    if_exists = name.endswith(_IF_EXISTS)
    name = name.removesuffix(_IF_EXISTS)
    if parts is None or (name not in _OPERATORS and (name != _NULL or if_exists)):
        raise ConditionRefused(f"{where}: the operator is not known here; known: {', '.join(_OPERATORS)}, {_NULL}")
    folded = key.lower()
    kind = _kind(folded, keys)
    if kind is None:
        raise ConditionRefused(f"{where}: the key '{key}' is not known here; known: {', '.join(keys)}")
    if name != _NULL and kind not in _OPERATORS[name].kinds:
        raise ConditionRefused(f"{where}: the value of '{key}' is {kind}, which {name} does not compare")
    values = tuple(_value(item, name, kind, f"{where}.{key}") for item in _listed(given, f"{where}.{key}"))
    if (name == _NULL or kind is KeyKind.BOOLEAN) and not set(values) <= {"true", "false"}:
        raise ConditionRefused(f"{where}.{key} must be true or false")
    return Condition(
        operator=name, key=folded, values=values, if_exists=if_exists, for_all=parts["qualifier"] == "ForAllValues"
    )


def _listed(given: Any, where: str) -> list[Any]:
    listed = given if isinstance(given, list) else [given]
    if not listed or len(listed) > _MOST_VALUES:
        raise ConditionRefused(f"{where} must be 1 to {_MOST_VALUES} values")
    return listed


def _value(item: Any, name: str, kind: KeyKind, where: str) -> str:
    text = str(item).lower() if isinstance(item, bool) else str(item) if isinstance(item, int | float) else item
    if not isinstance(text, str):
        raise ConditionRefused(f"{where} must be a string or a list of strings")
    if "${" in text:
        raise ConditionRefused(f"{where} has a policy variable, and variables are not replaced here")
    if name.startswith("Arn") and text.count(":") < 5:
        raise ConditionRefused(f"{where} has {text!r}, expected an ARN")
    if name != _NULL and kind is KeyKind.ADDRESS:
        try:
            ipaddress.ip_network(text, strict=False)
        except ValueError as error:
            raise ConditionRefused(
                f"{where} has {text!r}, expected an address or a network like 10.0.0.0/8"
            ) from error
    if name != _NULL and kind is KeyKind.TIME:
        try:
            _time(text)
        except ValueError as error:
            raise ConditionRefused(
                f"{where} has {text!r}, expected a date like 2030-01-31T00:00:00Z or seconds since the epoch"
            ) from error
    return text
