"""What signed statements may say of an image in a policy: only those of the right key about the right digest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from imagesmith.cli.image_policies import evidence_of
from imagesmith.inspection.image_policy import Evidence
from imagesmith.inspection.provenance import Provenance
from imagesmith.inspection.signing import SigningKey
from imagesmith.inspection.statements import Predicate, VerificationFailed, statement_bytes, subject

DIGEST, OTHER = "sha256:" + "ab" * 32, "sha256:" + "cd" * 32
TESTS = {"result": "PASSED", "failedTests": []}
SCAN = {
    "scanner": {"result": {"findings": [{"id": "CVE-1", "severity": "HIGH", "fixAvailable": "NO"}]}},
    "metadata": {"scanFinishedOn": "2026-11-29T12:00:00.000Z"},
}
APPROVAL = {"approvals": [{"approvedBy": "arn:jane"}, {"approvedBy": ""}]}
FOUND = Provenance(
    image="arn", digest=DIGEST, parent="h/p:1", parent_uri="pkg:oci/p", parent_digest=OTHER, components=(),
    builder="b", version="1", key="k", started="", finished="2026-11-29T11:00:00.000Z", statement={},
)  # fmt: skip


def signed(key: SigningKey, predicate: Predicate, content: Any, digest: str = DIGEST) -> tuple[Predicate, bytes]:
    payload = statement_bytes([subject("web", digest)], predicate, json.dumps(content).encode())
    return predicate, key.envelope(payload)


def evidence(key: SigningKey, *statements: tuple[Predicate, bytes]) -> Evidence:
    return evidence_of(FOUND, statements, key.public)


def test_statements_become_evidence(tmp_path: Path) -> None:
    """An approval by somebody unknown says so."""
    key = SigningKey.open(tmp_path)
    found = evidence(
        key, signed(key, Predicate.TEST_RESULT, TESTS), signed(key, Predicate.VULNERABILITIES, SCAN),
        signed(key, Predicate.APPROVAL, APPROVAL),
    )  # fmt: skip
    assert (found.tests, found.approved_by) == ("PASSED", ("arn:jane", "an unknown caller"))
    assert found.parent == ("h/p:1", "pkg:oci/p", OTHER)
    assert found.findings is not None and [item.fixable for item in found.findings] == [False]


def result_at(result: str, hour: int | None) -> Any:
    at = {} if hour is None else {"imagesmith_finishedOn": f"2026-11-29T{hour:02}:00:00.000Z"}
    return {"result": result, "failedTests": [], **at}


def scan_at(hour: int, *severities: str) -> Any:
    found = [{"id": "CVE-1", "severity": severity, "fixAvailable": "NO"} for severity in severities]
    return {
        "scanner": {"result": {"findings": found}},
        "metadata": {"scanFinishedOn": f"2026-11-29T{hour:02}:00:00.000Z"},
    }


def approved_at(hour: int, by: str) -> Any:
    return {"approvals": [{"approvedBy": by, "approvedOn": f"2026-11-29T{hour:02}:00:00.000Z"}]}


@pytest.mark.parametrize("reverse", [False, True], ids=["in order", "in reverse"])
@pytest.mark.parametrize(
    ("predicate", "statements", "expected"),
    [
        (Predicate.TEST_RESULT, [result_at("FAILED", 1), result_at("PASSED", 2)], "PASSED"),
        (Predicate.TEST_RESULT, [result_at("PASSED", 1), result_at("FAILED", 2)], "FAILED"),
        (Predicate.TEST_RESULT, [result_at("PASSED", 1), result_at("FAILED", 1)], "FAILED"),
        (Predicate.TEST_RESULT, [result_at("FAILED", None), result_at("PASSED", 2)], "FAILED"),
        (Predicate.TEST_RESULT, [result_at("PASSED", None), result_at("FAILED", 2)], "FAILED"),
        (Predicate.TEST_RESULT, [result_at("PASSED", None), result_at("FAILED", None)], "FAILED"),
        (Predicate.TEST_RESULT, [result_at("PASSED", None), result_at("PASSED", 2)], "PASSED"),
        (Predicate.VULNERABILITIES, [scan_at(1), scan_at(2, "CRITICAL")], "CRITICAL"),
        (Predicate.VULNERABILITIES, [scan_at(1, "CRITICAL"), scan_at(2)], ""),
        (Predicate.APPROVAL, [approved_at(1, "ann"), approved_at(2, "bob")], "bob"),
    ],
)  # fmt: skip
def test_of_several_statements_the_newest_counts(
    tmp_path: Path, predicate: Predicate, statements: list[Any], expected: str, reverse: bool
) -> None:
    """By what they sign of their time: a registry lists them in any order. A failure of unknown time counts."""
    key = SigningKey.open(tmp_path)
    order = statements[::-1] if reverse else statements
    found = evidence(key, *(signed(key, predicate, content) for content in order))
    said = {
        Predicate.TEST_RESULT: found.tests,
        Predicate.VULNERABILITIES: ", ".join(item.severity for item in found.findings or ()),
        Predicate.APPROVAL: ", ".join(found.approved_by or ()),
    }
    assert said[predicate] == expected


@pytest.mark.parametrize("kind", ["swapped", "of another key", "another predicate", "not signed", "cut", "no JSON"])
def test_what_is_not_a_statement_about_the_image_says_nothing(tmp_path: Path, kind: str) -> None:
    """A genuine statement about another image, of another key or kind, and bytes of any sort."""
    key, stranger = SigningKey.open(tmp_path / "one"), SigningKey.open(tmp_path / "two")
    _, envelope = signed(key, Predicate.TEST_RESULT, TESTS)
    document = json.loads(envelope)
    bytes_of = {
        "swapped": signed(key, Predicate.TEST_RESULT, TESTS, OTHER)[1],
        "of another key": signed(stranger, Predicate.TEST_RESULT, TESTS)[1],
        "another predicate": signed(key, Predicate.APPROVAL, TESTS)[1],
        "not signed": json.dumps({**document, "signatures": []}).encode(),
        "cut": envelope[:-20],
        "no JSON": b"\xff\0",
    }[kind]
    assert evidence(key, (Predicate.TEST_RESULT, bytes_of)).tests is None


@pytest.mark.parametrize(
    ("predicate", "content"),
    [
        (Predicate.TEST_RESULT, {}), (Predicate.TEST_RESULT, {"result": "PASSED", "failedTests": None}),
        (Predicate.VULNERABILITIES, {"scanner": []}),
        (Predicate.VULNERABILITIES, {**SCAN, "metadata": {}}), (Predicate.APPROVAL, {"approvals": [1]}),
        (Predicate.VULNERABILITIES, {**SCAN, "metadata": {"scanFinishedOn": "yesterday"}}),
        (Predicate.VULNERABILITIES, {**SCAN, "metadata": {"scanFinishedOn": "2026-11-29T12:00:00"}}),
    ],
)  # fmt: skip
def test_a_signed_statement_of_another_form_is_refused(tmp_path: Path, predicate: Predicate, content: Any) -> None:
    """It is neither read as nothing found, nor as a failure of ours."""
    key = SigningKey.open(tmp_path)
    for beside in ([], [signed(key, Predicate.VULNERABILITIES, scan_at(9))]):
        with pytest.raises(VerificationFailed, match="lacks a required member"):
            evidence(key, *beside, signed(key, predicate, content))
