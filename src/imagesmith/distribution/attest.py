"""What an image of a registry gets beside it: its documents, its statements for tools of others, a signature.

    documents of the layout   referrers, as they are
    Sigstore bundles          referrers, one for each statement of our key
    .sig, .att                tags, for cosign 2 (cosign.py)
    verification summary      a statement about this name (summaries.py)

All of it can be pushed again at any time: what is there stays, what was lost comes back.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from imagesmith.artifacts.layout import MANIFEST_TYPE, OciLayout
from imagesmith.artifacts.referrers import Document, Referrer, attached, referrer
from imagesmith.artifacts.retry_policy import RetryPolicy
from imagesmith.distribution.cosign import Attestation, name_in, push_signatures
from imagesmith.distribution.referrers import push_referrers
from imagesmith.distribution.summaries import concerns, keep_summary
from imagesmith.inspection.signing import PublicKey, SigningError, SigningKey, open_envelope
from imagesmith.inspection.sigstore import BUNDLE_TYPE, bundle
from imagesmith.inspection.statements import KINDS
from imagesmith.settings import Registry

_CONTENT = "dev.sigstore.bundle.content"
_PREDICATE = "dev.sigstore.bundle.predicateType"


def attest(
    layout: OciLayout,
    registry: Registry,
    repository: str,
    digest: str,
    key: SigningKey,
    retry_policy: RetryPolicy,
    at: datetime,
) -> tuple[str, ...]:
    """Attach all of it to an image that is in the layout and in the registry; returns the kinds of the referrers.
    `at` is the time of a new summary.

    Raises RegistryError, LayoutError.
    """
    name = name_in(registry, repository)
    held = attached(layout, digest)
    if keep_summary(layout, name, digest, held, key, at):
        held = attached(layout, digest)
    documents = tuple(item for item in held if concerns(item, name, digest))
    statements = [item.document.data for item in documents if item.document.kind in KINDS]
    attestations = [found for data in statements if (found := _attestation(data, key.public)) is not None]
    pushed = (*documents, *_bundles(layout, digest, attestations, key.public))
    push_referrers(registry, repository, digest, pushed, retry_policy)
    push_signatures(registry, repository, digest, key, attestations, retry_policy)
    return tuple(sorted({item.document.kind for item in pushed}))


def _attestation(envelope: bytes, key: PublicKey) -> Attestation | None:
    """A statement with its type; None for one that another key signed: only its worker can repeat it."""
    try:
        payload, _ = open_envelope(envelope, (key,))
        return Attestation(envelope, str(json.loads(payload)["predicateType"]))
    except (SigningError, ValueError, KeyError, TypeError):
        return None


def _bundles(
    layout: OciLayout, digest: str, attestations: Sequence[Attestation], key: PublicKey
) -> tuple[Referrer, ...]:
    size = len(layout.manifest_bytes(digest))
    return tuple(
        referrer(
            {"mediaType": MANIFEST_TYPE, "digest": digest, "size": size},
            Document(
                BUNDLE_TYPE, BUNDLE_TYPE, bundle(item.envelope, key),
                {_CONTENT: "dsse-envelope", _PREDICATE: item.predicate},
            ),
        )
        for item in attestations
    )  # fmt: skip
