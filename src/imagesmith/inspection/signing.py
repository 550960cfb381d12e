"""Signing of statements: DSSE envelopes with an Ed25519 key of the data directory.

    data_dir/signing/
      ed25519.pem      private key (PKCS #8), mode 0600, made at the first signature
      ed25519.pub      public key (SubjectPublicKeyInfo), for verifiers

The signature covers the type and the bytes of the payload, in DSSE's encoding (PAE), so that verification needs no
canonical form.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from imagesmith.files import READABLE, write_atomically
from imagesmith.values.names import canonical_json, sha256_hex

ENVELOPE_TYPE = "application/vnd.dsse.envelope.v1+json"
STATEMENT_TYPE = "application/vnd.in-toto+json"
_MAX_ENVELOPE = 128 * 1024 * 1024
"""As cosign reads attestations by default."""


class SigningError(RuntimeError):
    """A key that cannot be used, or an envelope without a signature of the expected key."""


@dataclass(frozen=True)
class PublicKey:
    """The key that verifies signatures; `id` is the SHA-256 of the key in DER."""

    key: Ed25519PublicKey

    @property
    def id(self) -> str:
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return sha256_hex(self.key.public_bytes(serialization.Encoding.DER, form))

    @property
    def envelope_id(self) -> str:
        """The id of the key in envelopes: the one that in-toto's library computes, which accepts no other."""
        form = serialization.PublicFormat.Raw
        public = self.key.public_bytes(serialization.Encoding.Raw, form).hex()
        described = {"keytype": "ed25519", "keyval": {"public": public}, "scheme": "ed25519"}
        return sha256_hex(canonical_json(described))

    @property
    def hint(self) -> str:
        """The id of the key in Sigstore bundles."""
        return base64.b64encode(bytes.fromhex(self.id)).decode()

    def verify(self, data: bytes, signature: bytes) -> None:
        """Raises SigningError."""
        try:
            self.key.verify(signature, data)
        except InvalidSignature as error:
            raise SigningError(f"the signature is not of the expected key ({self.id[:16]})") from error

    @classmethod
    def read(cls, path: Path) -> PublicKey:
        """Raises SigningError."""
        try:
            key = serialization.load_pem_public_key(path.read_bytes())
        except (OSError, ValueError) as error:
            raise SigningError(f"the public key {path} cannot be read: {error}") from error
        if not isinstance(key, Ed25519PublicKey):
            raise SigningError(f"the public key {path} is not an Ed25519 key")
        return cls(key)


class SigningKey:
    """The private key of a data directory."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @property
    def public(self) -> PublicKey:
        return PublicKey(self._key.public_key())

    @classmethod
    def open(cls, data_dir: Path) -> SigningKey:
        """Read the key, or create it if it does not exist. Raises SigningError."""
        path = data_dir / "signing" / "ed25519.pem"
        try:
            if not path.exists():
                _create(path)
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise SigningError(f"the signing key {path} cannot be used: {error}") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise SigningError(f"the signing key {path} is not an Ed25519 key")
        opened = cls(key)
        _write_public(public_key_path(data_dir), opened.public)
        return opened

    def sign(self, data: bytes) -> bytes:
        """The raw signature of some bytes."""
        return self._key.sign(data)

    def envelope(self, payload: bytes, payload_type: str = STATEMENT_TYPE) -> bytes:
        """The signed payload as a DSSE envelope, JSON."""
        signature = self._key.sign(_encoding(payload_type, payload))
        document = {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": payload_type,
            "signatures": [{"keyid": self.public.envelope_id, "sig": base64.b64encode(signature).decode()}],
        }
        return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()


def public_key_path(data_dir: Path) -> Path:
    return data_dir / "signing" / "ed25519.pub"


def open_envelope(data: bytes, keys: Sequence[PublicKey], payload_type: str = STATEMENT_TYPE) -> tuple[bytes, str]:
    """The payload of an envelope and the id of the key that signed it. Raises SigningError."""
    try:
        if len(data) > _MAX_ENVELOPE:
            raise ValueError("too long")
        document: Any = json.loads(data)
        payload = base64.b64decode(document["payload"], validate=True)
        kind = str(document["payloadType"])
        signatures = [base64.b64decode(item["sig"], validate=True) for item in document["signatures"]]
    except (ValueError, KeyError, TypeError, binascii.Error, RecursionError) as error:
        raise SigningError(f"it is not a signed envelope: {error!r}") from error
    if kind != payload_type:
        raise SigningError(f"the envelope contains {kind!r}, expected {payload_type!r}")
    for key in keys:
        for signature in signatures[:16]:
            with contextlib.suppress(SigningError):
                key.verify(_encoding(kind, payload), signature)
                return payload, key.id
    known = ", ".join(key.id[:16] for key in keys)
    raise SigningError(f"no signature matches the expected key ({known})")


def _encoding(kind: str, payload: bytes) -> bytes:
    return b"DSSEv1 %d %s %d %s" % (len(kind.encode()), kind.encode(), len(payload), payload)


def _create(path: Path) -> None:
    """Create the key atomically; of two processes at once, one wins and both read the same key."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_atomically(path, pem, replace=False)


def _write_public(path: Path, key: PublicKey) -> None:
    pem = key.key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    if path.exists() and path.read_bytes() == pem:
        return
    write_atomically(path, pem, mode=READABLE)
