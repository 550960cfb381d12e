"""The policy of `imagesmith image verify`: its file, and what signed statements about an image say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from imagesmith.cli.context import CommandFailed
from imagesmith.inspection.evidence import newest
from imagesmith.inspection.image_policy import Evidence, ImagePolicy, RuleVerdict, Vulnerability, load_policy
from imagesmith.inspection.provenance import Provenance
from imagesmith.inspection.signing import PublicKey
from imagesmith.inspection.statements import Predicate, VerificationFailed, open_statement
from imagesmith.values.names import parse_instant

JUDGED = (Predicate.TEST_RESULT, Predicate.VULNERABILITIES, Predicate.APPROVAL)
"""The statements that rules need besides the provenance."""


def read_policy(path: Path) -> ImagePolicy:
    """Raises CommandFailed with every problem of the file."""
    try:
        loaded = load_policy(path.read_bytes())
    except OSError as error:
        raise CommandFailed(f"the policy {path} cannot be read: {error.strerror}") from error
    if loaded.policy is None:
        raise CommandFailed("\n".join(problem.render(str(path)) for problem in loaded.problems))
    return loaded.policy


def evidence_of(
    found: Provenance, statements: Iterable[tuple[Predicate, bytes]], key: PublicKey
) -> Evidence:  # fmt: skip
    """What statements of the key say about the image of a verified provenance; of several the newest counts.
    Raises VerificationFailed for a valid signature over something that is no such statement."""
    said: dict[Predicate, list[Mapping[str, Any]]] = {}
    for predicate, envelope in statements:
        with suppress(VerificationFailed):  # of another key, or about another image
            content = open_statement(envelope, found.digest, (key,), predicate).predicate
            said.setdefault(predicate, []).append(content)
    try:
        return _evidence(found, {predicate: newest(predicate, items) for predicate, items in said.items()})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise VerificationFailed(f"a signed statement about it lacks a required member: {error!r}") from error


def refuse_broken(verdicts: Sequence[RuleVerdict], reference: str) -> None:
    """Raises CommandFailed with every rule that does not hold."""
    broken = [f"{item.rule}: {item.found}" for item in verdicts if not item.holds]
    if broken:
        raise CommandFailed(f"{reference} does not fulfil the policy: {'; '.join(broken)}")


def _evidence(found: Provenance, said: Mapping[Predicate, Mapping[str, Any]]) -> Evidence:
    tests, scan = said.get(Predicate.TEST_RESULT), said.get(Predicate.VULNERABILITIES)
    approval = said.get(Predicate.APPROVAL)
    return Evidence(
        builder=found.key,
        parent=tuple(dict.fromkeys(text for text in (found.parent, found.parent_uri, found.parent_digest) if text)),
        built=_moment(found.finished),
        tests=None if tests is None else str(tests["result"]),
        failed_tests=() if tests is None else tuple(map(str, tests["failedTests"])),
        approved_by=None if approval is None else tuple(
            str(item["approvedBy"]) or "an unknown caller" for item in approval["approvals"]
        ),
        findings=None if scan is None else tuple(map(_finding, scan["scanner"]["result"]["findings"])),
        scanned=None if scan is None else _moment(scan["metadata"]["scanFinishedOn"]),
    )  # fmt: skip


def _finding(item: Mapping[str, Any]) -> Vulnerability:
    return Vulnerability(str(item["id"]), str(item["severity"]), item["fixAvailable"] != "NO")


def _moment(text: str) -> datetime:
    moment = parse_instant(text)
    if moment.tzinfo is None:
        raise ValueError(f"the time {text} has no zone")
    return moment
