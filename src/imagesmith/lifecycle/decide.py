"""Which images a policy selects, and for which action (spec/api.md 5.5). Pure: images come in as candidates.

    candidates, newest first --> selected by recipe or tag --> each rule, DEPRECATE before DISABLE before DELETE:
        in a state that the rule is for --> not excluded by a tag --> not retained --> old enough --> its action

An image gets one action at most; an image that is still built gets none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from imagesmith.lifecycle.policy import LifecyclePolicy, Rule, shares_a_pair
from imagesmith.values.states import BUILT_IMAGE, UNSUCCESSFUL_IMAGE, ImageStatus, LifecycleAction
from imagesmith.values.version import Version

AFFECTED: Final[Mapping[LifecycleAction, frozenset[str]]] = {
    LifecycleAction.DEPRECATE: frozenset({ImageStatus.AVAILABLE}),
    LifecycleAction.DISABLE: frozenset({ImageStatus.AVAILABLE, ImageStatus.DEPRECATED}),
    LifecycleAction.DELETE: frozenset({*BUILT_IMAGE, *UNSUCCESSFUL_IMAGE}),
    LifecycleAction.AVAILABLE: frozenset({ImageStatus.DEPRECATED, ImageStatus.DISABLED}),
}
"""The states from which each action leads on."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What rules look at in an image."""

    arn: str
    image_type: str
    slug: str
    version: Version
    build: int
    status: str
    created: datetime
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Selected:
    """An image and the rule that selected it."""

    arn: str
    rule: Rule


def decide(policy: LifecyclePolicy, candidates: Iterable[Candidate], *, now: datetime) -> list[Selected]:
    """The selected images, newest first."""
    ordered = sorted(
        (item for item in candidates if is_subject(policy, item)),
        key=lambda item: (item.created, item.version, item.build, item.arn),
        reverse=True,
    )
    chosen: dict[str, Rule] = {}
    for rule in policy.rules:
        for item in _qualified(rule, ordered, now):
            chosen.setdefault(item.arn, rule)
    return [Selected(item.arn, chosen[item.arn]) for item in ordered if item.arn in chosen]


def is_subject(policy: LifecyclePolicy, item: Candidate) -> bool:
    """Whether an image is of the type and the selection of a policy, and not under construction."""
    if item.image_type != policy.image_type or item.status not in AFFECTED[LifecycleAction.DELETE]:
        return False
    if policy.recipes:
        return any(slug == item.slug and pattern.matches(item.version) for slug, pattern in policy.recipes)
    return shares_a_pair(policy.tags, item.tags)


def _qualified(rule: Rule, ordered: Sequence[Candidate], now: datetime) -> Iterable[Candidate]:
    """The images that a rule applies to. The newest of each recipe version are retained."""
    ranks: Counter[tuple[str, Version]] = Counter()
    for item in ordered:
        if shares_a_pair(rule.excluded_tags, item.tags):
            continue
        if item.status not in UNSUCCESSFUL_IMAGE and rule.retained:
            ranks[item.slug, item.version] += 1
            if ranks[item.slug, item.version] <= rule.retained:
                continue
        if item.status not in AFFECTED[rule.action]:
            continue
        if rule.age is None or rule.age.is_exceeded(item.created, now=now):
            yield item
