"""The scan of an AMI on demand and what it must not find (scanResultCondition; spec/api.md 5.4).

no condition    the scan is made and logged; whatever comes of it, the image goes on
a condition     a finding that counts and is worse than maximumSeverityLabel fails the image in the test phase,
                and so does a scan that could not be made: nobody would know
"""

from __future__ import annotations

from imagesmith.inspection.scanning.findings import SEVERITIES, Finding
from imagesmith.recipes.plan import PlannedScan
from imagesmith.workflows import inspection
from imagesmith.workflows.failures import StepFailed
from imagesmith.workflows.work import Work

_NAMED = 5
"""Findings that a reason names; the log has all."""


def scan_on_demand(work: Work, wanted: PlannedScan, digest: str) -> None:
    """Scan the output image and judge. Raises StepFailed, Cancelled."""
    try:
        with work.timed("scan"):
            report = inspection.scan(work, wanted, digest)
    except StepFailed:
        if wanted.maximum_severity:
            raise
        return
    over = [finding for finding in report.findings if exceeds(finding, wanted)]
    for finding in over:
        work.log.line("scan", f"{finding.severity} {finding.vulnerability_id}: {finding.remediation}")
    if over:
        named = ", ".join(f"{item.vulnerability_id} ({item.severity})" for item in over[:_NAMED])
        more = f" and {len(over) - _NAMED} more" if len(over) > _NAMED else ""
        raise StepFailed(
            f"the scan found what is worse than {wanted.maximum_severity}: {named}{more}; "
            "update the packages, or raise scanResultCondition.maximumSeverityLabel"
        )


def exceeds(finding: Finding, wanted: PlannedScan) -> bool:
    """Whether a finding counts and is worse than the condition allows. Untriaged ones have no rank."""
    if not wanted.maximum_severity or finding.severity == "UNTRIAGED":
        return False
    if wanted.fixable_only and finding.fix_available == "NO":
        return False
    return SEVERITIES.index(finding.severity) < [str(item) for item in SEVERITIES].index(wanted.maximum_severity)
