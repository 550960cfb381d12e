"""Why an action leaves an AMI as it is: the exclusions of a rule, in the order of spec/api.md 5.5, no. 7. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from imagesmith.lifecycle.policy import AmiExclusions, shares_a_pair


@dataclass(frozen=True, kw_only=True)
class AmiProperties:
    """What exclusions look at."""

    region: str
    public: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    shared_accounts: frozenset[str] = frozenset()
    last_launched: datetime | None = None
    """None: no launch is known, and none excludes the AMI."""


def exclusion_of(rules: AmiExclusions, ami: AmiProperties, *, now: datetime) -> str:
    """The sentence of the first exclusion that holds for an AMI; empty without one."""
    if ami.region in rules.regions:
        return f"The Region {ami.region} is excluded."
    if rules.public and ami.public:
        return "The AMI is public."
    if shares_a_pair(rules.tags, ami.tags):
        return "A tag of the AMI is excluded."
    if shared := sorted(ami.shared_accounts.intersection(rules.shared_accounts)):
        return f"The AMI is shared with the account {shared[0]}."
    limit = rules.last_launched
    if limit is not None and ami.last_launched is not None and not limit.is_exceeded(ami.last_launched, now=now):
        return f"The AMI was launched within the last {limit.value} {limit.unit.lower()}."
    return ""
