"""The element Condition of a policy: operators, and the keys that this service has values for.

    {"StringEquals": {"aws:PrincipalAccount": ["111122223333", "444455556666"]}}
      operator         key                     any of these values; all keys and operators must hold

The rules are IAM's: a missing key makes a condition false, and a negated or `IfExists` condition true; keys are
compared without upper and lower case.
"""

from __future__ import annotations

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


_KEYS: Final = MappingProxyType(
    {
        "aws:principalaccount": KeyKind.STRING,
        "aws:principalarn": KeyKind.ARN,
        "aws:requestedregion": KeyKind.STRING,
        "aws:resourceaccount": KeyKind.STRING,
        "aws:currenttime": KeyKind.TIME,
        "aws:epochtime": KeyKind.TIME,
    }
)
_SHOWN: Final = (
    "aws:PrincipalAccount, aws:PrincipalArn, aws:RequestedRegion, aws:ResourceAccount, aws:CurrentTime, "
    "aws:EpochTime, aws:ResourceTag/KEY"
)
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


def read_conditions(given: Any, where: str) -> tuple[Condition, ...]:
    """The conditions of a statement. Raises ConditionRefused."""
    if not isinstance(given, dict):
        raise ConditionRefused(f"{where} must be an object")
    found: list[Condition] = []
    for name, wanted in given.items():
        if not isinstance(wanted, dict) or not wanted:
            raise ConditionRefused(f"{where}.{name} must be an object of keys and values")
        found += [_condition(name, key, values, f"{where}.{name}") for key, values in wanted.items()]
    return tuple(found)


def _condition(written: str, key: str, given: Any, where: str) -> Condition:
    parts = _QUALIFIER.fullmatch(written)
    name = parts["operator"] if parts is not None else ""
    if_exists = name.endswith(_IF_EXISTS)
    name = name.removesuffix(_IF_EXISTS)
    if parts is None or (name not in _OPERATORS and (name != _NULL or if_exists)):
        raise ConditionRefused(f"{where}: the operator is not known here; known: {', '.join(_OPERATORS)}, {_NULL}")
    folded = key.lower()
    kind = KeyKind.STRING if folded.startswith(RESOURCE_TAG) and folded != RESOURCE_TAG else _KEYS.get(folded)
    if kind is None:
        raise ConditionRefused(f"{where}: the key '{key}' is not known here; known: {_SHOWN}")
    if name != _NULL and kind not in _OPERATORS[name].kinds:
        raise ConditionRefused(f"{where}: the value of '{key}' is {kind}, which {name} does not compare")
    values = tuple(_value(item, name, kind, f"{where}.{key}") for item in _listed(given, f"{where}.{key}"))
    if name == _NULL and not set(values) <= {"true", "false"}:
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
    if name != _NULL and kind is KeyKind.TIME:
        try:
            _time(text)
        except ValueError as error:
            raise ConditionRefused(
                f"{where} has {text!r}, expected a date like 2030-01-31T00:00:00Z or seconds since the epoch"
            ) from error
    return text
