"""What is attested besides provenance and inventory: tests, scans, approvals, and the summary of all. Pure.

    test result              in-toto test-result v0.1: the TEST workflows of the run, by their steps
    vulnerabilities          cosign's vuln v1: a completed scan with all its findings
    approval                 of our own, as there is no common one: who let a waiting step go on
    verification summary     SLSA VSA v1: what a distribution checked, so that one signature tells an admission
                             controller

Only what happened is stated: a run without tests has no test result, and a scan that failed has no statement.
Each states when it was done: a registry lists statements in any order, and the last about an image counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from imagesmith import __version__
from imagesmith.inspection.scanning.scanner import ScanReport
from imagesmith.inspection.scanning.severities import SEVERITIES
from imagesmith.inspection.statements import Predicate
from imagesmith.values.names import parse_instant

TESTED, SCANNED, APPROVED = "IMAGESMITH_TESTED", "IMAGESMITH_SCANNED", "IMAGESMITH_APPROVED"
"""Levels of our own in a summary: SLSA allows them beside its own."""
BUILD_LEVEL = "SLSA_BUILD_LEVEL_1"
"""More depends on the machine, whose hardening no program can know of itself."""
_TESTED_ON = "imagesmith_finishedOn"
_LATEST, EARLIEST = datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)
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


def result_of_tests(workflows: Sequence[str], steps: Sequence[CheckedStep], finished: str) -> Content | None:
    """The predicate; None when nothing was tested. A failed test counts, also where its run goes on.

    `finished` is in ISO 8601. in-toto's predicate has no time, so ours is named as SLSA names extensions.
    """
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
        _TESTED_ON: finished,
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


def newest(predicate: Predicate, said: Sequence[Content]) -> Content:
    """The one that counts, of statements of one kind about one image: that of the latest work.

    What states no time may be the latest, except a success of tests: those of earlier versions state none.
    """

    def rank(content: Content) -> tuple[datetime, bool]:
        passed = predicate is Predicate.TEST_RESULT and content.get("result") == "PASSED"
        return finished_on(predicate, content) or (EARLIEST if passed else _LATEST), not passed

    return max(said, key=rank)


def finished_on(predicate: Predicate, content: Content) -> datetime | None:
    """When the work ended that a statement tells of; None if it does not say so."""
    try:
        match predicate:
            case Predicate.PROVENANCE:
                text = content["runDetails"]["metadata"]["finishedOn"]
            case Predicate.TEST_RESULT:
                text = content[_TESTED_ON]
            case Predicate.VULNERABILITIES:
                text = content["metadata"]["scanFinishedOn"]
            case _:
                text = max(str(item["approvedOn"]) for item in content["approvals"])
        moment = parse_instant(text)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return moment if moment.tzinfo is not None else None


def summary(
    resource: str, *, builder: str, at: str, evidence: Mapping[Predicate, Sequence[tuple[str, Content]]]
) -> Content:
    """The predicate of a verification summary for a resource, from verified statements: for each kind the digests
    of the envelopes with what they say. `builder` is the id of the key; `at` is in ISO 8601."""
    levels = [BUILD_LEVEL]
    last = {
        predicate: newest(predicate, [content for _, content in said])
        for predicate, said in evidence.items()
        if said
    }
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
