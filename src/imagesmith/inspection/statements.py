"""Signed statements about images: in-toto Statement v1, one for each kind of predicate. Pure.

    predicate type                                what it says                          artifact type in a registry
    SLSA provenance v1                            how the image was made                ...in-toto.provenance+dsse
    SPDX, CycloneDX                               which packages it has                 ...in-toto.spdx+dsse, ...
    test result, vulnerabilities, approval        what was done with it (evidence.py)
    SLSA verification summary v1                  what was checked before it was distributed

A statement is signed as a DSSE envelope (signing.py). A reader states the digest and the predicate that it expects:
a genuine statement about another image, or about something else, is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from imagesmith.inspection.signing import PublicKey, SigningError, open_envelope

STATEMENT = "https://in-toto.io/Statement/v1"
MAX_STATEMENT = 90 * 1024 * 1024
"""Most bytes of a predicate that is signed: cosign reads at most 128 MiB, and base64 adds a third."""


class VerificationFailed(RuntimeError):
    """A statement that is not valid for an image: one sentence with the reason."""


class Predicate(StrEnum):
    """The kinds of statements, by their predicate types."""

    PROVENANCE = "https://slsa.dev/provenance/v1"
    SPDX = "https://spdx.dev/Document"
    CYCLONEDX = "https://cyclonedx.org/bom"
    TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
    VULNERABILITIES = "https://cosign.sigstore.dev/attestation/vuln/v1"
    APPROVAL = "urn:imagesmith:approval:v1"
    SUMMARY = "https://slsa.dev/verification_summary/v1"

    @property
    def kind(self) -> str:
        """The artifact type of its envelope: `application/vnd.in-toto.<name>+dsse`, in-toto's form."""
        return f"application/vnd.in-toto.{self.slug}+dsse"

    @property
    def slug(self) -> str:
        """In names of files: `test-result`."""
        return self.name.lower().replace("_", "-")

    @property
    def words(self) -> str:
        """In the words of messages: `test result`."""
        return {"SPDX": "SPDX document", "CYCLONEDX": "CycloneDX document", "SUMMARY": "verification summary"}.get(
            self.name, self.name.lower().replace("_", " ")
        )


KINDS: Mapping[str, Predicate] = {predicate.kind: predicate for predicate in Predicate}


@dataclass(frozen=True)
class VerifiedStatement:
    """A statement about one digest whose signature holds."""

    predicate: Mapping[str, Any]
    document: Mapping[str, Any]
    """All of it."""
    key: str
    """Id of the key that signed it."""


Subject = Mapping[str, Any]


def subject(name: str, digest: str) -> Subject:
    """What a statement is about; `digest` with or without its `sha256:`."""
    return {"name": name, "digest": {"sha256": digest.removeprefix("sha256:")}}


def statement_bytes(subjects: Sequence[Subject], predicate: Predicate, content: bytes) -> bytes:
    """A statement, ready to be signed; `content` is the JSON of the predicate. Raises SigningError if it is too
    long for readers."""
    if len(content) > MAX_STATEMENT:
        raise SigningError(
            f"a statement of {len(content)} bytes is not signed: readers accept at most {MAX_STATEMENT} bytes"
        )
    head = {
        "_type": STATEMENT,
        "subject": list(subjects),
        "predicateType": str(predicate),
    }
    start = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()
    return b'%b,"predicate":%b}' % (start[:-1], content.strip())


def open_statement(
    envelope: bytes, digest: str, keys: Sequence[PublicKey], predicate: Predicate
) -> VerifiedStatement:
    """Check signature, form, kind and subject of an envelope for the image `digest`. Raises VerificationFailed."""
    about = predicate.words
    try:
        payload, key = open_envelope(envelope, tuple(keys))
        document: Any = json.loads(payload)
        kinds = (document["_type"], document["predicateType"])
        subjects = [str(item["digest"].get("sha256", "")) for item in document["subject"]]
        content = document["predicate"]
    except SigningError as error:
        raise VerificationFailed(f"the signature of the {about} is not valid: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise VerificationFailed(f"the signed statement is not an in-toto statement: {error!r}") from error
    if kinds != (STATEMENT, str(predicate)):
        raise VerificationFailed(f"the signed statement is {kinds[1]!r}, expected {str(predicate)!r}")
    if digest.removeprefix("sha256:") not in subjects:
        raise VerificationFailed(f"the {about} describes sha256:{', '.join(subjects)}, not {digest}")
    if not isinstance(content, dict):
        raise VerificationFailed(f"the predicate of the signed {about} is not an object")
    return VerifiedStatement(content, document, key)
