"""The scan of an AMI on demand and its condition (scanResultCondition; spec/api.md 5.4).

no condition    the scan is made and logged; the image continues with any result
a condition     a finding that counts and is worse than maximumSeverityLabel fails the image in the test phase,
                and so does a failed scan, whose findings are unknown
no severity     no source ranks a finding that counts: with a fix it fails the image, as it may be the worst and
                an update removes it; without a fix it is only logged, as otherwise no image could pass
a verdict       a package that a verdict (VEX) calls not_affected or fixed does not count; the finding stays stored
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from imagesmith.builds import inspection
from imagesmith.builds.failures import StepFailed
from imagesmith.builds.work import Work
from imagesmith.inspection.scanning.findings import Finding
from imagesmith.inspection.scanning.severities import SEVERITIES
from imagesmith.recipes.plan import PlannedScan
from imagesmith.vulnerabilities.verdicts import Verdicts

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
    findings = _open_findings(work, report.findings)
    unknown = [item.vulnerability_id for item in findings if is_left_open(item, wanted)]
    if unknown:
        work.log.line(
            "scan",
            f"warning: {_list_some(unknown)} has no severity and no fix: not compared with "
            f"{wanted.maximum_severity}",
        )
    over = [finding for finding in findings if exceeds(finding, wanted)]
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


def _open_findings(work: Work, findings: Sequence[Finding]) -> list[Finding]:
    """The findings without the packages that a verdict (VEX) settles; the log names each verdict."""
    database = work.worker_context.outcomes.database
    names = [finding.vulnerability_id for finding in findings]
    verdicts = database.query(lambda tx: Verdicts(tx, names).of(work.plan.image_arn))
    left: list[Finding] = []
    for finding in findings:
        # by its own name alone: advisories list vulnerabilities as related that are others
        settled = {item: verdicts.find([finding.vulnerability_id], item.package) for item in finding.packages}
        for item, verdict in settled.items():
            if verdict is not None and verdict.settles:
                work.log.line("scan", f"{finding.vulnerability_id} in {item.name}: {verdict.reason}")
        packages = tuple(item for item, verdict in settled.items() if verdict is None or not verdict.settles)
        if packages:
            left.append(replace(finding, packages=packages))
    return left


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
