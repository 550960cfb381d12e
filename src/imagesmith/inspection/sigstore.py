"""The forms in which tools of others expect our signatures. Pure.

    bundle            Sigstore bundle v0.3: a DSSE envelope and a hint of the key; cosign 3, sigstore-js, in-toto
    simple signing    JSON that names a repository and a digest; cosign 2 reads it as the signature of an image

Both hold one signature. The hint is what Sigstore's clients compute from a public key.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from imagesmith.inspection.signing import PublicKey, SigningError, SigningKey

BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SIMPLE_SIGNING_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
_SIGNATURE_KIND = "cosign container image signature"


def bundle(envelope: bytes, key: PublicKey) -> bytes:
    """An envelope with one signature of `key` as a bundle."""
    held: Any = json.loads(envelope)
    # the hint names the key: cosign skips a signature whose id is not the one that it computes itself
    signatures = [{"keyid": "", "sig": item["sig"]} for item in held["signatures"]]
    document = {
        "mediaType": BUNDLE_TYPE,
        "verificationMaterial": {"publicKey": {"hint": key.hint}},
        "dsseEnvelope": {**held, "signatures": signatures},
    }
    return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def envelope_of(data: bytes) -> bytes:
    """The envelope of a bundle. Raises SigningError."""
    try:
        document: Any = json.loads(data)
        kind, envelope = str(document["mediaType"]), json.dumps(document["dsseEnvelope"]).encode()
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SigningError(f"it is not a Sigstore bundle: {error!r}") from error
    if kind != BUNDLE_TYPE:
        raise SigningError(f"the bundle is {kind!r}, expected {BUNDLE_TYPE!r}")
    return envelope


def signed_name(name: str, digest: str, key: SigningKey) -> tuple[bytes, str]:
    """The statement that the image `digest` belongs to the repository `name`, and its signature in base64."""
    document = {
        "critical": {
            "identity": {"docker-reference": name},
            "image": {"docker-manifest-digest": digest},
            "type": _SIGNATURE_KIND,
        },
        "optional": None,
    }
    payload = json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
    return payload, base64.b64encode(key.sign(payload)).decode()


def read_name(payload: bytes, signature: str, digest: str, key: PublicKey) -> str:
    """The repository that a signature gives an image. Raises SigningError."""
    try:
        key.verify(payload, base64.b64decode(signature, validate=True))
        critical: Any = json.loads(payload)["critical"]
        found = str(critical["image"]["docker-manifest-digest"]), str(critical["type"])
        name = str(critical["identity"]["docker-reference"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise SigningError(f"it is not a signature of an image: {error!r}") from error
    if found != (digest, _SIGNATURE_KIND):
        raise SigningError(f"the signature is of {found[0]}, not of {digest}")
    return name
