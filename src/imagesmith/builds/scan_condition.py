"""The scan of an AMI on demand and its condition (scanResultCondition; spec/api.md 5.4).

no condition    the scan is made and logged; the image continues with any result
a condition     a finding that counts and is worse than maximumSeverityLabel fails the image in the test phase,
                and so does a failed scan, whose findings are unknown
no severity     no source ranks a finding that counts: with a fix it fails the image, as it may be the worst and
                an update removes it; without a fix it is only logged, as otherwise no image could pass
"""

from __future__ import annotations

from collections.abc import Sequence

from imagesmith.builds import inspection
from imagesmith.builds.failures import StepFailed
from imagesmith.builds.work import Work
from imagesmith.inspection.scanning.findings import Finding
from imagesmith.inspection.scanning.severities import SEVERITIES
from imagesmith.recipes.plan import PlannedScan

_NAMED = 5
"""Greatest number of findings in a reason; the log has all."""


def scan_on_demand(work: Work, wanted: PlannedScan, digest: str) -> None:
    """Scan the output image and apply the condition. Raises StepFailed, Cancelled."""
    try:
        with work.timed("scan"):
            report = inspection.scan(work, wanted, digest)
    except StepFailed:
        if wanted.maximum_severity:
            raise
        return
    unknown = [item.vulnerability_id for item in report.findings if is_left_open(item, wanted)]
    if unknown:
        work.log.line(
            "scan",
            f"warning: {_list_some(unknown)} has no severity and no fix: not compared with "
            f"{wanted.maximum_severity}",
        )
    over = [finding for finding in report.findings if exceeds(finding, wanted)]
    for finding in over:
        work.log.line("scan", f"{finding.severity} {finding.vulnerability_id}: {finding.remediation}")
    if over:
        named = _list_some([f"{item.vulnerability_id} ({item.severity})" for item in over])
        unranked = any(item.severity == "UNTRIAGED" for item in over)
        or_unranked = ", or have no severity" if unranked else ""
        raise StepFailed(
            f"the scan found vulnerabilities worse than {wanted.maximum_severity}{or_unranked}: {named}; "
            "update the packages, or raise scanResultCondition.maximumSeverityLabel"
        )


def exceeds(finding: Finding, wanted: PlannedScan) -> bool:
    """Whether a finding counts and is worse than the condition permits, or is unranked and has a fix."""
    if not _counts(finding, wanted):
        return False
    if finding.severity == "UNTRIAGED":
        return finding.fix_available != "NO"
    return SEVERITIES.index(finding.severity) < [str(item) for item in SEVERITIES].index(wanted.maximum_severity)


def is_left_open(finding: Finding, wanted: PlannedScan) -> bool:
    """Whether a finding counts, but is unranked and has no fix."""
    return _counts(finding, wanted) and finding.severity == "UNTRIAGED" and finding.fix_available == "NO"


def _counts(finding: Finding, wanted: PlannedScan) -> bool:
    return bool(wanted.maximum_severity) and not (wanted.fixable_only and finding.fix_available == "NO")


def _list_some(items: Sequence[str]) -> str:
    more = f" and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
    return ", ".join(items[:_NAMED]) + more
