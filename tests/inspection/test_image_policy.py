"""Policies of images: every slip in the file is a problem with its place, every rule says what was found."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from imagesmith.inspection.image_policy import SKEW, Evidence, ImagePolicy, Vulnerability, judge, load_policy

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
KEY = "ede04ac2de9f4aff" + "0" * 48
WHOLE = """\
builders: [ede04ac2de9f4aff]
parents: ["registry.example/golden/*"]
tested: true
approved: true
maximumSeverity: MEDIUM
fixableOnly: true
maximumAgeDays: 30
"""
GOOD = Evidence(
    builder=KEY, parent=("registry.example/golden/base:1", "sha256:ab"), built=NOW - timedelta(days=2),
    tests="PASSED", failed_tests=(), approved_by=("arn:aws:iam::0:user/jane",),
    findings=(Vulnerability("CVE-1", "HIGH", fixable=False), Vulnerability("CVE-2", "MEDIUM", fixable=True)),
    scanned=NOW - timedelta(days=1),
)  # fmt: skip


def whole() -> ImagePolicy:
    policy = load_policy(WHOLE.encode()).policy
    assert policy is not None
    return policy


def test_a_policy_that_is_fulfilled_has_a_verdict_for_each_rule() -> None:
    """Age counts for the build and for the scan."""
    verdicts = judge(whole(), GOOD, NOW)
    assert all(item.holds for item in verdicts)
    assert [item.rule for item in verdicts] == [
        "builders", "parents", "tested", "approved", "maximumSeverity", "maximumAgeDays", "maximumAgeDays",
    ]  # fmt: skip
    assert verdicts[4].found == "1 findings, none above MEDIUM, 1 without a fix do not count"


@pytest.mark.parametrize(
    ("changed", "rule", "found"),
    [
        ({"builder": "f" * 64}, "builders", "signed by ffffffffffffffff"),
        ({"parent": ("registry.example/other:1",)}, "parents", "its parent is registry.example/other:1"),
        ({"parent": ()}, "parents", "not named"),
        ({"tests": None}, "tested", "no test result is attested"),
        ({"tests": "FAILED", "failed_tests": ("a#b",)}, "tested", "its tests are FAILED: a#b"),
        ({"tests": "WARNED"}, "tested", "WARNED"),
        ({"approved_by": None}, "approved", "no approval is attested"),
        ({"approved_by": ()}, "approved", "no approval is attested"),
        ({"findings": None, "scanned": None}, "maximumSeverity", "no scan is attested"),
        ({"findings": (Vulnerability("CVE-9", "CRITICAL", fixable=True),)}, "maximumSeverity", "CVE-9 (CRITICAL)"),
        ({"findings": (Vulnerability("CVE-9", "UNTRIAGED", fixable=True),)}, "maximumSeverity", "(UNTRIAGED)"),
        ({"findings": (Vulnerability("CVE-9", "odd", fixable=True),)}, "maximumSeverity", "CVE-9 (odd)"),
        ({"findings": (Vulnerability("CVE-9", "HIGH", fixable=True),) * 7}, "maximumSeverity", "and 2 more"),
        ({"built": NOW - timedelta(days=31)}, "maximumAgeDays", "built 31 days ago"),
        ({"scanned": NOW - timedelta(days=31)}, "maximumAgeDays", "scanned 31 days ago"),
        ({"built": NOW + SKEW + timedelta(seconds=1)}, "maximumAgeDays", "in the future of this clock"),
    ],
)  # fmt: skip
def test_a_rule_that_does_not_hold_says_what_was_found(changed: dict[str, object], rule: str, found: str) -> None:
    """One rule fails, and no other; what is missing fails too."""
    (broken,) = [item for item in judge(whole(), replace(GOOD, **changed), NOW) if not item.holds]  # type: ignore[arg-type]
    assert broken.rule == rule and found in broken.found


def test_clocks_may_differ_a_little() -> None:
    """An image of a machine whose clock is some minutes ahead is not from the future."""
    assert all(item.holds for item in judge(whole(), replace(GOOD, built=NOW + SKEW), NOW))


def test_no_finding_at_all_can_be_asked_for() -> None:
    """NONE is below every severity; findings without a fix count unless they are left out."""
    policy = ImagePolicy(maximum_severity="NONE")
    assert not judge(policy, GOOD, NOW)[0].holds
    assert judge(policy, replace(GOOD, findings=()), NOW)[0].holds
    assert not judge(ImagePolicy(maximum_severity="MEDIUM"), GOOD, NOW)[0].holds


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("tests: true", "p:1:1 unknown-key policy: unknown key 'tests' (hint: did you mean 'tested'?)"),
        ("tested: true\nmaximumAge: 3", "p:2:1 unknown-key policy: unknown key 'maximumAge'"),
        ("tested: yes please", "p:1:9 wrong-type policy: 'tested' must be true or false"),
        ("tested:", "p:1:1 missing-value policy: 'tested' is empty"),
        ("maximumSeverity: BAD", "p:1:18 wrong-value policy: 'maximumSeverity' is 'BAD'"),
        ("maximumSeverity: UNTRIAGED", "p:1:18 wrong-value"),
        ("fixableOnly: true", "p:1:1 missing-key policy: 'fixableOnly' needs 'maximumSeverity'"),
        ("maximumAgeDays: 0", "p:1:17 wrong-value policy: 'maximumAgeDays' is 0, expected 1 to"),
        ("maximumAgeDays: -1", "p:1:17"), ("maximumAgeDays: 1.5", "p:1:17 wrong-type"),
        ("maximumAgeDays: 99999999999999999999", "p:1:17 wrong-value"),
        ("builders: abc", "p:1:11 wrong-type policy: 'builders' must be a list"),
        ("builders: [abc]", "p:1:12 wrong-value policy: 'abc' is not the id of a key"),
        ("builders: []", "p:1:11 wrong-value policy: 'builders' is empty: nothing would be accepted"),
        ("parents: [[a]]", "p:1:11 wrong-type policy: 'parents' is a list of strings"),
        ("parents: [null]", "p:1:11 wrong-type"), ("parents: {a: b}", "p:1:10 wrong-type"),
        ("[a]", "p:1:1 wrong-type a policy is a mapping of rules"), ("tested: true\ntested: false", "p:2:1"),
        ("tested: false", "no rule asks for anything"), ("{}", "no rule asks for anything"),
        ("", ""), ("tested: [", "p:2:1 yaml-syntax"), ("\0", ""), ("x" * 70_000, ""),
    ],
)  # fmt: skip
def test_a_slip_in_a_policy_is_a_problem_with_its_place(text: str, problem: str) -> None:
    """A policy with any problem is none: a rule that is misspelt would not be asked for."""
    loaded = load_policy(text.encode())
    assert loaded.policy is None and loaded.problems
    assert any(problem in item.render("p") for item in loaded.problems), loaded.problems
