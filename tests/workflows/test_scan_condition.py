"""What a scan on demand must not find."""

from __future__ import annotations

import pytest

from imagesmith.inspection.scanning.findings import Finding, Severity, VulnerablePackage
from imagesmith.recipes.plan import PlannedScan
from imagesmith.workflows.scan_condition import exceeds


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
        ("UNTRIAGED", "2", "INFORMATIONAL", False, False),
        ("CRITICAL", "2", "", True, False),
    ],
)
def test_what_counts_and_exceeds(
    severity: Severity, fixed: str, maximum: str, fixable_only: bool, expected: bool
) -> None:
    """Worse than the maximum, and with a fix unless every finding counts; without a maximum nothing does."""
    finding = Finding("CVE-1", severity, (VulnerablePackage("a", "1", "", "deb", "", fixed),), "test")
    wanted = PlannedScan("", on_demand=True, maximum_severity=maximum, fixable_only=fixable_only)
    assert exceeds(finding, wanted) is expected


def test_a_planned_scan_survives_the_journal() -> None:
    """Plans that were written before there were conditions are read too."""
    assert PlannedScan.from_json({"repository": "r", "tags": ["a"]}) == PlannedScan("r", ("a",))
