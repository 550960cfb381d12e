"""The verification summary of an image under one name: SLSA's VSA, which one signature proves.

    statements beside the image --signature, subject--> verified ones --> summary of HOST/REPOSITORY@DIGEST

It is made when an image gets a name: at each delivery, and when a copy is attested under another name. As long as
the statements are the same, the summary of a name stays the same, so that a repeated delivery adds nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from imagesmith.artifacts.layout import OciLayout
from imagesmith.artifacts.oci import digest_of
from imagesmith.artifacts.referrers import Document, Referrer, attach
from imagesmith.inspection.evidence import Content, summary
from imagesmith.inspection.signing import ENVELOPE_TYPE, PublicKey, SigningKey
from imagesmith.inspection.statements import (
    KINDS,
    Predicate,
    VerificationFailed,
    open_statement,
    statement_bytes,
    subject,
)
from imagesmith.values.names import canonical_json, iso_instant

RESOURCE = "imagesmith.resource"
"""The annotation with the name that a summary is about."""
_TIME = "timeVerified"


def keep_summary(
    layout: OciLayout, name: str, digest: str, documents: Sequence[Referrer], key: SigningKey, at: datetime
) -> bool:
    """Keep a summary beside an image of the layout, unless there is one that says the same, or there is no valid
    provenance: of an image that was not built here nothing was verified. Returns whether one was added."""
    resource = f"{name}@{digest}"
    statements = [
        (KINDS[item.document.kind], item.document.data) for item in documents if item.document.kind in KINDS
    ]
    content = summary_of(statements, resource, digest, key, at)
    if content is None:
        return False
    for item in documents:
        if item.document.kind != Predicate.SUMMARY.kind or item.document.annotations.get(RESOURCE) != resource:
            continue
        if _same(_opened(item.document.data, digest, key.public, Predicate.SUMMARY), content):
            return False
    payload = statement_bytes([subject(name, digest)], Predicate.SUMMARY, canonical_json(content).encode())
    document = Document(Predicate.SUMMARY.kind, ENVELOPE_TYPE, key.envelope(payload), {RESOURCE: resource})
    attach(layout, digest, document)
    return True


def concerns(item: Referrer, name: str, digest: str) -> bool:
    """Whether a document goes with the image under a name: a summary is about one name."""
    return item.document.annotations.get(RESOURCE, f"{name}@{digest}") == f"{name}@{digest}"


def summary_of(
    statements: Iterable[tuple[Predicate, bytes]], resource: str, digest: str, key: SigningKey, at: datetime
) -> Content | None:
    """The summary of all envelopes that the key signed about a digest; None without a provenance among them."""
    evidence: dict[Predicate, list[tuple[str, Content]]] = {}
    for predicate, envelope in statements:
        content = None if predicate is Predicate.SUMMARY else _opened(envelope, digest, key.public, predicate)
        if content is not None:
            evidence.setdefault(predicate, []).append((digest_of(envelope), content))
    if Predicate.PROVENANCE not in evidence:
        return None
    return summary(resource, builder=key.public.id, at=iso_instant(at), evidence=evidence)


def _opened(envelope: bytes, digest: str, key: PublicKey, predicate: Predicate) -> Content | None:
    """What a statement says; None for one that another key signed."""
    try:
        return open_statement(envelope, digest, (key,), predicate).predicate
    except VerificationFailed:
        return None


def _same(one: Content | None, other: Content) -> bool:
    return one is not None and {**one, _TIME: ""} == {**other, _TIME: ""}
