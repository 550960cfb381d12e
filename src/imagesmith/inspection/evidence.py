"""What is attested besides provenance and inventory: tests, scans, approvals, and the summary of all. Pure.

    test result              in-toto test-result v0.1: the TEST workflows of the run, by their steps
    vulnerabilities          cosign's vuln v1: a completed scan with all its findings
    approval                 of our own, as there is no common one: who let a waiting step go on
    verification summary     SLSA VSA v1: what a distribution checked, so that one signature tells an admission
                             controller

Only what happened is stated: a run without tests has no test result, and a scan that failed has no statement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imagesmith import __version__
from imagesmith.inspection.scanning.scanner import ScanReport
from imagesmith.inspection.scanning.severities import SEVERITIES
from imagesmith.inspection.statements import Predicate

TESTED, SCANNED, APPROVED = "IMAGESMITH_TESTED", "IMAGESMITH_SCANNED", "IMAGESMITH_APPROVED"
"""Levels of our own in a summary: SLSA allows them beside its own."""
BUILD_LEVEL = "SLSA_BUILD_LEVEL_1"
"""More depends on the machine, whose hardening no program can know of itself."""
POLICY = "urn:imagesmith:distribution-policy:v1"
"""docs/verify.md says what it requires."""
Content = Mapping[str, Any]


@dataclass(frozen=True)
class CheckedStep:
    """A step of a TEST workflow that ended. `name` is `<workflow ARN>#<step>`."""

    name: str
    passed: bool


@dataclass(frozen=True)
class Approval:
    """An answer that let a waiting step go on. `by` is the ARN of its sender, empty when it is unknown."""

    step: str
    by: str
    reason: str
    at: str


def result_of_tests(workflows: Sequence[str], steps: Sequence[CheckedStep]) -> Content | None:
    """The predicate; None when nothing was tested. A failed test counts, also where its run goes on."""
    if not steps:
        return None
    passed = [step.name for step in steps if step.passed]
    failed = [step.name for step in steps if not step.passed]
    return {
        "result": "FAILED" if failed else "PASSED",
        "configuration": [{"uri": arn} for arn in workflows],
        "passedTests": passed,
        "warnedTests": [],
        "failedTests": failed,
    }


def vulnerabilities(scanner: str, report: ScanReport, *, image: str, started: str, finished: str) -> Content:
    """The predicate of a completed scan; `image` is its ARN, times are in ISO 8601."""
    counts = {label: sum(item.severity == label for item in report.findings) for label in SEVERITIES}
    findings = [
        {
            "id": item.vulnerability_id,
            "severity": str(item.severity),
            "fixAvailable": item.fix_available,
            "packages": [f"{package.name} {package.version}" for package in item.packages],
        }
        for item in report.findings
    ]
    return {
        "invocation": {"uri": image},
        "scanner": {
            "uri": f"urn:imagesmith:scanner:{scanner}",
            "version": __version__,
            "result": {"counts": counts, "findings": findings, "notes": list(report.notes)},
        },
        "metadata": {"scanStartedOn": started, "scanFinishedOn": finished},
    }


def approvals(found: Sequence[Approval]) -> Content | None:
    """The predicate; None without any."""
    if not found:
        return None
    return {
        "approvals": [
            {"step": item.step, "approvedBy": item.by, "reason": item.reason, "approvedOn": item.at}
            for item in found
        ]
    }


def summary(
    resource: str, *, builder: str, at: str, evidence: Mapping[Predicate, Sequence[tuple[str, Content]]]
) -> Content:
    """The predicate of a verification summary for a resource, from verified statements: for each kind the digests
    of the envelopes with what they say, oldest first. `builder` is the id of the key; `at` is in ISO 8601."""
    levels = [BUILD_LEVEL]
    last = {predicate: said[-1][1] for predicate, said in evidence.items() if said}
    if last.get(Predicate.TEST_RESULT, {}).get("result") == "PASSED":
        levels.append(TESTED)
    levels += [SCANNED] if Predicate.VULNERABILITIES in last else []
    levels += [APPROVED] if Predicate.APPROVAL in last else []
    return {
        "verifier": {"id": f"urn:imagesmith:builder:{builder}", "version": {"imagesmith": __version__}},
        "timeVerified": at,
        "resourceUri": resource,
        "policy": {"uri": POLICY},
        "inputAttestations": [
            {"uri": str(predicate), "digest": {"sha256": digest.removeprefix("sha256:")}}
            for predicate, said in sorted(evidence.items())
            for digest, _ in said
        ],
        "verificationResult": "PASSED",
        "verifiedLevels": levels,
        "slsaVersion": "1.0",
    }
