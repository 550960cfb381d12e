"""Signatures and attestations of an image as cosign 2 finds them: manifests under tags made of the image's digest.

    sha256-<hex>.sig    one layer a signature: simple signing, which names the repository
    sha256-<hex>.att    one layer an attestation: a DSSE envelope, with its predicate type as an annotation

Existing layers of others stay. Two writers at once can lose one, as with any tag: a further push repairs it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from imagesmith.artifacts.layout import MANIFEST_TYPE
from imagesmith.artifacts.oci import Descriptor, descriptor
from imagesmith.artifacts.plain_images import CONFIG_TYPE
from imagesmith.artifacts.retry_policy import RetryPolicy
from imagesmith.distribution.client import RegistryClient, RegistryError
from imagesmith.distribution.referrers import fallback_tag
from imagesmith.inspection.signing import ENVELOPE_TYPE, PublicKey, SigningError, SigningKey
from imagesmith.inspection.sigstore import SIMPLE_SIGNING_TYPE, read_name, signed_name
from imagesmith.settings import Registry

_SIGNATURE = "dev.cosignproject.cosign/signature"
_PREDICATE = "predicateType"
_MOST_LAYERS = 200
_ATTACHED = re.compile(r"sha256-[0-9a-f]{64}(\.sig|\.att)?")


@dataclass(frozen=True)
class Attestation:
    """A signed statement about an image."""

    envelope: bytes
    predicate: str


def signature_tag(digest: str) -> str:
    """`sha256:ab..` -> `sha256-ab...sig`."""
    return f"{fallback_tag(digest)}.sig"


def attestation_tag(digest: str) -> str:
    """`sha256:ab..` -> `sha256-ab...att`."""
    return f"{fallback_tag(digest)}.att"


def is_attached_tag(tag: str) -> bool:
    """Whether a tag is made of the digest of an image that it says something about."""
    return _ATTACHED.fullmatch(tag) is not None


def name_in(registry: Registry, repository: str) -> str:
    """The name that a signature gives an image of a repository."""
    return f"{registry.url.rstrip('/')}/{repository}"


def push_signatures(
    registry: Registry,
    repository: str,
    digest: str,
    key: SigningKey,
    attestations: Sequence[Attestation],
    retry_policy: RetryPolicy,
) -> None:
    """Sign an image of a registry and attach its attestations. Raises RegistryError."""
    payload, signature = signed_name(name_in(registry, repository), digest, key)
    signed = _layer(SIMPLE_SIGNING_TYPE, payload, {_SIGNATURE: signature})
    attested = [
        (item.envelope, _layer(ENVELOPE_TYPE, item.envelope, {_SIGNATURE: "", _PREDICATE: item.predicate}))
        for item in attestations
    ]
    with RegistryClient(registry, retry_policy) as client:
        _extend(client, repository, signature_tag(digest), [(payload, signed)])
        if attested:
            _extend(client, repository, attestation_tag(digest), attested)


def fetch_names(registry: Registry, repository: str, digest: str, key: PublicKey) -> tuple[str, ...]:
    """The names that valid signatures give an image, in the order of the signatures. Raises RegistryError."""
    names = []
    with RegistryClient(registry) as client:
        for layer in _layers(client, repository, signature_tag(digest)):
            signature = (layer.get("annotations") or {}).get(_SIGNATURE, "")
            if layer.get("mediaType") != SIMPLE_SIGNING_TYPE or not signature:
                continue
            payload = client.blob(repository, str(layer["digest"]))
            try:
                names.append(read_name(payload or b"", str(signature), digest, key))
            except SigningError:
                continue  # of somebody else
    return tuple(names)


def _layer(kind: str, data: bytes, annotations: dict[str, str]) -> Descriptor:
    made = descriptor(kind, data)
    made["annotations"] = annotations
    return made


def _extend(client: RegistryClient, repository: str, tag: str, added: Sequence[tuple[bytes, Descriptor]]) -> None:
    before = _layers(client, repository, tag)
    known = {_identity(layer) for layer in before}
    new = [(data, layer) for data, layer in added if _identity(layer) not in known]
    if not new:
        return
    layers = [*before, *(layer for _, layer in new)]
    # cosign reads the layers alone; the registry's clients want a configuration that lists them
    config = {
        "architecture": "", "os": "", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
    }  # fmt: skip
    text = json.dumps(config, separators=(",", ":"), sort_keys=True).encode()
    for data in (text, *(data for data, _ in new)):
        client.put_blob(repository, data)
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": descriptor(CONFIG_TYPE, text),
        "layers": layers,
    }
    client.put_manifest(repository, tag, json.dumps(manifest, sort_keys=True).encode(), MANIFEST_TYPE)


def _identity(layer: Descriptor) -> tuple[str, str]:
    """Two keys sign the same bytes: what differs is an annotation."""
    return str(layer["digest"]), str((layer.get("annotations") or {}).get(_SIGNATURE, ""))


def _layers(client: RegistryClient, repository: str, tag: str) -> list[Any]:
    raw = client.manifest(repository, tag, accept=MANIFEST_TYPE)
    if raw is None:
        return []
    try:
        found = json.loads(raw).get("layers") or []
        return [layer for layer in found if isinstance(layer.get("digest"), str)][:_MOST_LAYERS]
    except (ValueError, AttributeError, TypeError) as error:
        raise RegistryError(f"the manifest {repository}:{tag} cannot be read; remove the tag") from error
