"""What an image must fulfil to be accepted: `imagesmith image verify --policy FILE`. Pure.

    builders: [KEY-ID, ...]            who built it: ids of signing keys, at least 16 of their digits
    parents: [PATTERN, ...]            from which parent: a reference, a package-url or a digest, `*` for any text
    tested: true                       its tests were run and passed
    approved: true                     somebody let a waiting step go on
    maximumSeverity: HIGH              it was scanned, and no finding is worse; NONE: there is none
    fixableOnly: true                  findings without a fix do not count
    maximumAgeDays: 30                 it was built, and scanned if that is required, at most so many days ago

Every rule is judged by signed statements about the image. A statement that is missing fails its rule.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

from imagesmith.documents.fields import Fields
from imagesmith.documents.nodes import ListNode, MapNode, ScalarNode, kind_of
from imagesmith.documents.yaml import YamlLimits, load_yaml
from imagesmith.inspection.scanning.severities import SEVERITIES
from imagesmith.values.diagnostics import Position, Problem, errors_of

KEYS = (
    "builders", "parents", "tested", "approved", "maximumSeverity", "fixableOnly", "maximumAgeDays",
)  # fmt: skip
_KEY_ID = re.compile(r"(?:urn:imagesmith:builder:)?([0-9a-f]{16,64})")
_CHOICES = (*(str(label) for label in SEVERITIES if label != "UNTRIAGED"), "NONE")
"""Worst first; NONE: no finding at all."""
_LIMITS = YamlLimits(depth=4, nodes=2000)
_MOST_DAYS = 36_500
SKEW = timedelta(minutes=5)
"""By how much the clocks of two machines may differ: a later time is not believed."""


@dataclass(frozen=True)
class ImagePolicy:
    """The rules of a policy; an empty member asks for nothing."""

    builders: tuple[str, ...] = ()
    parents: tuple[str, ...] = ()
    tested: bool = False
    approved: bool = False
    maximum_severity: str = ""
    fixable_only: bool = False
    maximum_age_days: int = 0


@dataclass(frozen=True)
class LoadedPolicy:
    """`policy` is None when there are problems."""

    policy: ImagePolicy | None
    problems: tuple[Problem, ...]


@dataclass(frozen=True)
class Vulnerability:
    """A finding of an attested scan."""

    id: str
    severity: str
    fixable: bool


@dataclass(frozen=True)
class Evidence:
    """What verified statements say about an image. None: there is no such statement."""

    builder: str
    """Id of the key that signed the provenance."""
    parent: Sequence[str]
    """Its reference, package-url and digest."""
    built: datetime
    tests: str | None
    """PASSED, FAILED or WARNED."""
    failed_tests: Sequence[str]
    approved_by: Sequence[str] | None
    findings: Sequence[Vulnerability] | None
    scanned: datetime | None


@dataclass(frozen=True)
class RuleVerdict:
    """One rule: whether it holds, and in words what was found."""

    rule: str
    holds: bool
    found: str

    def to_json(self) -> Mapping[str, object]:
        return {"rule": self.rule, "holds": self.holds, "found": self.found}


def load_policy(text: bytes) -> LoadedPolicy:
    """Read a policy. Every defect is a problem with its position."""
    loaded = load_yaml(text, limits=_LIMITS)
    problems = list(loaded.problems)
    if loaded.root is not None and not isinstance(loaded.root, MapNode):
        problems.append(
            Problem("wrong-type", f"a policy is a mapping of rules, not {kind_of(loaded.root)}", Position(1, 1))
        )
    if not isinstance(loaded.root, MapNode):
        return LoadedPolicy(None, tuple(problems))
    fields = Fields(loaded.root, problems, "policy")
    fields.check_keys(KEYS)
    for key, value in loaded.root.entries:
        if isinstance(value, ScalarNode) and value.is_null:
            fields.problem("missing-value", f"'{key.text[:80]}' is empty: it would ask for nothing", key.position)
    policy = ImagePolicy(
        builders=_builders(fields),
        parents=tuple(item.text for item in _texts(fields, "parents")),
        tested=fields.boolean("tested", default=False),
        approved=fields.boolean("approved", default=False),
        maximum_severity=fields.choice("maximumSeverity", _CHOICES, default=""),
        fixable_only=fields.boolean("fixableOnly", default=False),
        maximum_age_days=_days(fields),
    )
    if policy.fixable_only and not policy.maximum_severity:
        fields.problem("missing-key", "'fixableOnly' needs 'maximumSeverity'", loaded.root.key("fixableOnly"))
    if policy == ImagePolicy() and not errors_of(problems):
        fields.problem("missing-key", "no rule asks for anything", hint=f"known here: {', '.join(KEYS)}")
    failing = errors_of(problems)
    return LoadedPolicy(None if failing else policy, failing)


def judge(policy: ImagePolicy, evidence: Evidence, now: datetime) -> tuple[RuleVerdict, ...]:
    """A verdict for each rule that the policy has."""
    verdicts = []
    if policy.builders:
        known = any(evidence.builder.startswith(id) for id in policy.builders)
        verdicts.append(RuleVerdict("builders", known, f"it was built and signed by {evidence.builder[:16]}"))
    if policy.parents:
        fits = any(fnmatchcase(name, pattern) for name in evidence.parent for pattern in policy.parents)
        verdicts.append(RuleVerdict("parents", fits, f"its parent is {' '.join(evidence.parent) or 'not named'}"))
    if policy.tested:
        verdicts.append(_tests(evidence))
    if policy.approved:
        by = evidence.approved_by
        words = f"approved by {', '.join(by)}" if by else "no approval is attested"
        verdicts.append(RuleVerdict("approved", bool(by), words))
    if policy.maximum_severity:
        verdicts.append(_findings(policy, evidence))
    if policy.maximum_age_days:
        verdicts += _ages(policy, evidence, now)
    return tuple(verdicts)


def _tests(evidence: Evidence) -> RuleVerdict:
    if evidence.tests is None:
        return RuleVerdict("tested", False, "no test result is attested")
    failed = f": {', '.join(evidence.failed_tests[:3])}" if evidence.failed_tests else ""
    return RuleVerdict("tested", evidence.tests == "PASSED", f"its tests are {evidence.tests}{failed}")


def _findings(policy: ImagePolicy, evidence: Evidence) -> RuleVerdict:
    if evidence.findings is None:
        return RuleVerdict("maximumSeverity", False, "no scan is attested")
    most = _CHOICES.index(policy.maximum_severity)
    counted = [item for item in evidence.findings if item.fixable or not policy.fixable_only]
    # a severity that nobody knows may be the worst
    worse = [item for item in counted if item.severity not in _CHOICES or _CHOICES.index(item.severity) < most]
    named = ", ".join(f"{item.id} ({item.severity})" for item in worse[:5])
    more = f" and {len(worse) - 5} more" if len(worse) > 5 else ""
    if worse:
        return RuleVerdict("maximumSeverity", False, f"findings above {policy.maximum_severity}: {named}{more}")
    ignored = len(evidence.findings) - len(counted)
    skipped = f", {ignored} without a fix do not count" if ignored else ""
    return RuleVerdict(
        "maximumSeverity", True, f"{len(counted)} findings, none above {policy.maximum_severity}{skipped}"
    )


def _ages(policy: ImagePolicy, evidence: Evidence, now: datetime) -> list[RuleVerdict]:
    verdicts = [_age(policy, "built", evidence.built, now)]
    if policy.maximum_severity and evidence.scanned is not None:
        verdicts.append(_age(policy, "scanned", evidence.scanned, now))
    return verdicts


def _age(policy: ImagePolicy, what: str, moment: datetime, now: datetime) -> RuleVerdict:
    if moment > now + SKEW:
        words = f"{what} at {moment.isoformat()}, which is in the future of this clock: {now.isoformat()}"
        return RuleVerdict("maximumAgeDays", False, words)
    age = max(now - moment, timedelta())
    holds = age <= timedelta(days=policy.maximum_age_days)
    return RuleVerdict("maximumAgeDays", holds, f"{what} {age.days} days ago, at {moment.isoformat()}")


def _builders(fields: Fields) -> tuple[str, ...]:
    found = []
    for item in _texts(fields, "builders"):
        id = _KEY_ID.fullmatch(item.text)
        if id is None:
            message = f"'{item.text[:80]}' is not the id of a key: 16 to 64 digits of 0-9 and a-f"
            fields.problem("wrong-value", message, item)
        else:
            found.append(id[1])
    return tuple(found)


def _texts(fields: Fields, key: str) -> list[ScalarNode]:
    """The texts of a list, which has at least one."""
    node = fields.sequence(key)
    if node is None:
        return []
    return _scalars(fields, key, node)


def _scalars(fields: Fields, key: str, node: ListNode) -> list[ScalarNode]:
    found = []
    for item in node.items:
        if not isinstance(item, ScalarNode) or item.is_null or not item.text:
            fields.problem("wrong-type", f"'{key}' is a list of strings", item)
        else:
            found.append(item)
    if not node.items:
        fields.problem("wrong-value", f"'{key}' is empty: nothing would be accepted", node)
    return found


def _days(fields: Fields) -> int:
    days = fields.integer("maximumAgeDays", default=0)
    node = fields.node.get("maximumAgeDays")
    if node is not None and not 1 <= days <= _MOST_DAYS:
        fields.problem("wrong-value", f"'maximumAgeDays' is {days}, expected 1 to {_MOST_DAYS}", node)
    return days
