"""Which images a policy selects: examples of every rule, and properties that hold for all of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesmith.lifecycle.age import Age
from imagesmith.lifecycle.decide import AFFECTED, Candidate, decide, is_subject
from imagesmith.lifecycle.exclusions import AmiProperties, exclusion_of
from imagesmith.lifecycle.policy import AmiExclusions, LifecyclePolicy
from imagesmith.values.states import UNFINISHED_IMAGE, ImageStatus
from imagesmith.values.version import Version

NOW = datetime(2026, 11, 29, 3, 0, tzinfo=UTC)


def rule(action: str, **limit: Any) -> dict[str, Any]:
    exclusions = limit.pop("exclusionRules", {})
    return {"action": {"type": action}, "filter": limit, "exclusionRules": exclusions}


def age(action: str, days: int, **more: Any) -> dict[str, Any]:
    return rule(action, type="AGE", value=days, unit="DAYS", **more)


def policy(*rules: dict[str, Any], tags: dict[str, str] | None = None, version: str = "x.x.x") -> LifecyclePolicy:
    selection = {"tagMap": tags} if tags else {"recipes": [{"name": "My Web", "semanticVersion": version}]}
    return LifecyclePolicy.from_document(
        {"resourceType": "AMI_IMAGE", "policyDetails": list(rules), "resourceSelection": selection}
    )


def image(
    days: float, status: str = "AVAILABLE", *, build: int = 1, version: str = "1.0.0", **more: Any
) -> Candidate:
    facts: dict[str, Any] = {
        "arn": f"image/my-web/{version}/{build}", "image_type": "AMI", "slug": "my-web",
        "version": Version.parse(version), "build": build, "status": status, "created": NOW - timedelta(days=days),
    }  # fmt: skip
    return Candidate(**{**facts, **more})


def actions(wanted: LifecyclePolicy, *images: Candidate) -> dict[str, str]:
    return {
        item.arn.removeprefix("image/my-web/"): str(item.rule.action) for item in decide(wanted, images, now=NOW)
    }


LADDER = policy(age("DELETE", 90), age("DISABLE", 60), age("DEPRECATE", 30))


@pytest.mark.parametrize(
    ("days", "status", "action"),
    [
        (29, "AVAILABLE", ""), (31, "AVAILABLE", "DEPRECATE"), (61, "AVAILABLE", "DEPRECATE"),
        (31, "DEPRECATED", ""), (61, "DEPRECATED", "DISABLE"), (91, "DEPRECATED", "DISABLE"),
        (61, "DISABLED", ""), (91, "DISABLED", "DELETE"), (91, "FAILED", "DELETE"), (91, "CANCELLED", "DELETE"),
        (61, "FAILED", ""), (91, "BUILDING", ""), (91, "DELETED", ""),
    ],
)  # fmt: skip
def test_an_image_takes_one_step_in_each_run(days: int, status: str, action: str) -> None:
    """DEPRECATE before DISABLE before DELETE, and a rule that is satisfied is passed over."""
    assert actions(LADDER, image(days, status)) == ({"1.0.0/1": action} if action else {})


@pytest.mark.parametrize(
    ("wanted", "selected"),
    [
        (policy(rule("DELETE", type="COUNT", value=2)), {"1.0.0/1", "1.0.0/2"}),
        (policy(rule("DELETE", type="COUNT", value=4)), set()),
        (policy(age("DELETE", 15)), {"1.0.0/1", "1.0.0/2", "1.0.0/3"}),
        (policy(age("DELETE", 15, retainAtLeast=1)), {"1.0.0/1", "1.0.0/2", "1.0.0/3"}),
        (policy(age("DELETE", 15, retainAtLeast=3)), {"1.0.0/1"}),
        (policy(age("DISABLE", 15, retainAtLeast=3)), {"1.0.0/1", "1.0.0/2", "1.0.0/3"}),
    ],
)
def test_the_newest_images_are_retained(wanted: LifecyclePolicy, selected: set[str]) -> None:
    """COUNT keeps its value, AGE what retainAtLeast says; only a deletion retains."""
    images = [image(10 * (5 - build), build=build) for build in range(1, 5)]
    assert set(actions(wanted, *images)) == selected


def test_failed_and_excluded_images_take_no_place() -> None:
    """A failed image always qualifies, an excluded one never, and neither counts as retained."""
    kept = {"keep": "yes"}
    wanted = policy(rule("DELETE", type="COUNT", value=1, exclusionRules={"tagMap": kept}))
    images = [
        image(1, "FAILED", build=5), image(2, build=4, tags=kept), image(3, build=3),
        image(4, "CANCELLED", build=2), image(5, build=1),
    ]  # fmt: skip
    assert set(actions(wanted, *images)) == {"1.0.0/5", "1.0.0/2", "1.0.0/1"}


def test_each_recipe_version_is_counted_separately() -> None:
    """The newest build of every version stays."""
    wanted = policy(rule("DELETE", type="COUNT", value=1))
    images = [image(build, build=build, version=version) for version in ("1.0.0", "1.1.0") for build in (1, 2)]
    assert set(actions(wanted, *images)) == {"1.0.0/2", "1.1.0/2"}


@pytest.mark.parametrize(
    ("wanted", "item", "expected"),
    [
        (policy(age("DELETE", 1)), image(2), True),
        (policy(age("DELETE", 1), version="1.x.x"), image(2, version="2.0.0"), False),
        (policy(age("DELETE", 1), version="1.0.0"), image(2), True),
        (policy(age("DELETE", 1)), image(2, slug="other"), False),
        (policy(age("DELETE", 1)), image(2, image_type="DOCKER"), False),
        (policy(age("DELETE", 1), tags={"a": "1", "b": "2"}), image(2, tags={"b": "2"}), True),
        (policy(age("DELETE", 1), tags={"a": "1"}), image(2, tags={"a": "2"}), False),
    ],
)
def test_selection(wanted: LifecyclePolicy, item: Candidate, expected: bool) -> None:
    """By recipe name and version, or by any pair of tags; only images of the policy's type."""
    assert is_subject(wanted, item) is expected


KEPT = {"tagMap": {"keep": "yes"}}
CANDIDATES = st.lists(
    st.builds(
        lambda number, days, status, version, tag: image(
            days, status, build=number, version=version, tags={"keep": tag} if tag else {}
        ),
        st.integers(1, 10_000), st.floats(0, 400), st.sampled_from(list(ImageStatus)),
        st.sampled_from(["1.0.0", "1.0.1", "2.0.0"]), st.sampled_from(["", "yes", "no"]),
    ),
    unique_by=lambda item: item.arn, max_size=30,
)  # fmt: skip
RULES = st.lists(
    st.one_of(
        st.builds(
            lambda action, days, kept: age(
                action, days, exclusionRules=KEPT, **({"retainAtLeast": kept} if kept else {})
            ),
            st.sampled_from(["DEPRECATE", "DISABLE", "DELETE"]), st.integers(1, 365), st.integers(0, 5),
        ),
        st.builds(
            lambda value: rule("DELETE", type="COUNT", value=value, exclusionRules=KEPT),
            st.integers(1, 5),
        ),
    ),
    min_size=1, max_size=3, unique_by=lambda item: item["action"]["type"],
)  # fmt: skip


@given(CANDIDATES, RULES)
def test_what_holds_for_every_policy(images: list[Candidate], rules: list[dict[str, Any]]) -> None:
    """One action for an image at most; none for what is built or excluded; retained images stay; the order of the
    facts does not matter."""
    wanted = policy(*rules)
    found = decide(wanted, images, now=NOW)
    assert len({item.arn for item in found}) == len(found)
    assert found == decide(wanted, reversed(images), now=NOW)
    facts = {item.arn: item for item in images}
    for item in found:
        candidate = facts[item.arn]
        assert candidate.status in AFFECTED[item.rule.action] and candidate.status not in UNFINISHED_IMAGE
        assert candidate.tags.get("keep") != "yes"
        assert item.rule.age is None or item.rule.age.is_exceeded(candidate.created, now=NOW)
    for deletion in (item for item in wanted.rules if item.action == "DELETE"):
        deleted = {item.arn for item in found if item.rule == deletion}
        for version in {item.version for item in images}:
            places = [
                item for item in images
                if item.version == version and item.status in AFFECTED[deletion.action]
                and item.status not in ("FAILED", "CANCELLED") and item.tags.get("keep") != "yes"
            ]  # fmt: skip
            kept = [item for item in places if item.arn not in deleted]
            assert len(kept) >= min(deletion.retained, len(places))


@given(CANDIDATES, st.integers(1, 5))
def test_a_second_run_after_a_count_finds_nothing(images: list[Candidate], value: int) -> None:
    """What is left after a deletion by count is not selected again."""
    wanted = policy(rule("DELETE", type="COUNT", value=value))
    gone = {item.arn for item in decide(wanted, images, now=NOW)}
    assert decide(wanted, [item for item in images if item.arn not in gone], now=NOW) == []


@pytest.mark.parametrize(
    ("value", "unit", "start", "end"),
    [
        (1, "DAYS", "2026-02-28", "2026-03-01"), (2, "WEEKS", "2026-01-01", "2026-01-15"),
        (1, "MONTHS", "2026-01-31", "2026-02-28"), (13, "MONTHS", "2026-12-31", "2028-01-31"),
        (1, "YEARS", "2024-02-29", "2025-02-28"), (1000, "YEARS", "9500-01-01", "9999-12-31"),
    ],
)  # fmt: skip
def test_ages_follow_the_calendar(value: int, unit: Any, start: str, end: str) -> None:
    """Months and years have their length, and the last day of a month stays in its month."""
    moment = datetime.fromisoformat(start).replace(tzinfo=UTC)
    assert Age(value, unit).after(moment).date().isoformat() == end


FACTS = AmiProperties(
    region="eu-west-1", public=True, tags={"a": "1"}, shared_accounts=frozenset({"111111111111"}),
    last_launched=NOW - timedelta(days=3),
)  # fmt: skip


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"regions": ["eu-west-1"], "isPublic": True}, "The Region eu-west-1 is excluded."),
        ({"isPublic": True, "tagMap": {"a": "1"}}, "The AMI is public."),
        ({"tagMap": {"a": "1"}, "sharedAccounts": ["111111111111"]}, "A tag of the AMI is excluded."),
        ({"sharedAccounts": ["111111111111"]}, "The AMI is shared with the account 111111111111."),
        ({"lastLaunched": {"value": 4, "unit": "DAYS"}}, "The AMI was launched within the last 4 days."),
        ({"lastLaunched": {"value": 2, "unit": "DAYS"}}, ""),
        ({"regions": ["eu-west-2"], "tagMap": {"a": "2"}, "sharedAccounts": ["222222222222"]}, ""),
        ({}, ""),
    ],
)
def test_exclusions_of_amis(members: dict[str, Any], words: str) -> None:
    """The first one that holds is the reason; an AMI whose launch is unknown is not excluded by it."""
    rules = AmiExclusions.from_document(members)
    assert exclusion_of(rules, FACTS, now=NOW) == words
    unlaunched = replace(FACTS, last_launched=None)
    assert exclusion_of(rules, unlaunched, now=NOW) == ("" if "launched" in words else words)
