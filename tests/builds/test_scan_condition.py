"""What a scan on demand must not find."""

from __future__ import annotations

import pytest

from imagesmith.builds.scan_condition import exceeds, is_left_open
from imagesmith.inspection.scanning.advisories import Advisory
from imagesmith.inspection.scanning.findings import Finding, VulnerablePackage
from imagesmith.inspection.scanning.severities import Severity
from imagesmith.recipes.plan import PlannedScan


@pytest.mark.parametrize(
    ("severity", "fixed", "maximum", "fixable_only", "expected"),
    [
        ("CRITICAL", "2", "HIGH", True, True),
        ("CRITICAL", "", "HIGH", True, False),
        ("CRITICAL", "", "HIGH", False, True),
        ("HIGH", "2", "HIGH", True, False),
        ("HIGH", "2", "MEDIUM", True, True),
        ("LOW", "2", "INFORMATIONAL", True, True),
        ("INFORMATIONAL", "2", "INFORMATIONAL", False, False),
        ("UNTRIAGED", "2", "HIGH", True, True),
        ("UNTRIAGED", "2", "INFORMATIONAL", False, True),
        ("UNTRIAGED", "", "INFORMATIONAL", True, False),
        ("UNTRIAGED", "", "INFORMATIONAL", False, False),
        ("UNTRIAGED", "2", "", True, False),
        ("CRITICAL", "2", "", True, False),
    ],
)
def test_what_counts_and_exceeds(
    severity: Severity, fixed: str, maximum: str, fixable_only: bool, expected: bool
) -> None:
    """Worse than the maximum, and with a fix unless every finding counts; without a maximum nothing does.

    What nobody ranks may be the worst, and fails the image where an update would end it.
    """
    finding = Finding(Advisory("CVE-1", severity, "test"), (VulnerablePackage("a", "1", "", "deb", "", fixed),))
    wanted = PlannedScan("", on_demand=True, maximum_severity=maximum, fixable_only=fixable_only)
    assert exceeds(finding, wanted) is expected


@pytest.mark.parametrize(
    ("severity", "fixed", "maximum", "fixable_only", "expected"),
    [
        ("UNTRIAGED", "", "HIGH", False, True),
        ("UNTRIAGED", "2", "HIGH", False, False),
        ("UNTRIAGED", "", "HIGH", True, False),
        ("UNTRIAGED", "", "", False, False),
        ("HIGH", "", "HIGH", False, False),
    ],
)
def test_what_cannot_be_judged_is_named(
    severity: Severity, fixed: str, maximum: str, fixable_only: bool, expected: bool
) -> None:
    """It counts, nobody ranks it and nothing fixes it: it neither fails the image nor passes in silence."""
    finding = Finding(Advisory("CVE-1", severity, "test"), (VulnerablePackage("a", "1", "", "deb", "", fixed),))
    wanted = PlannedScan("", on_demand=True, maximum_severity=maximum, fixable_only=fixable_only)
    assert is_left_open(finding, wanted) is expected


def test_a_planned_scan_survives_the_journal() -> None:
    """Plans that were written before there were conditions are read too."""
    assert PlannedScan.from_json({"repository": "r", "tags": ["a"]}) == PlannedScan("r", ("a",))
