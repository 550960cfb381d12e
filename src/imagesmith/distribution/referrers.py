"""Documents of an image in a registry: pushed as OCI referrers, found by the image's digest.

    blobs -> manifest by its digest --answer has OCI-Subject--> done: the registry keeps the list of referrers
                                    --it has none--> read the index tagged `sha256-<hex>`, add, write it back

The second way is the tag schema of the OCI distribution specification, for registries without the referrers API
(Debian's docker-registry). Two simultaneous writers of such an index can lose an entry: another push repairs it,
because existing entries are never removed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence

from imagesmith.artifacts.layout import INDEX_TYPE, MANIFEST_TYPE
from imagesmith.artifacts.oci import Descriptor, digest_of
from imagesmith.artifacts.referrers import EMPTY, Referrer, document_of
from imagesmith.artifacts.retry_policy import RetryPolicy
from imagesmith.distribution.client import RegistryClient, RegistryError
from imagesmith.settings import Registry

_ACCEPTED = ", ".join(
    (
        MANIFEST_TYPE,
        INDEX_TYPE,
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    )
)
_MAX_REFERRERS = 500
_NONE = RetryPolicy()


def fallback_tag(digest: str) -> str:
    """`sha256:ab..` -> `sha256-ab..`."""
    return digest.replace(":", "-")


def push_referrers(
    registry: Registry,
    repository: str,
    digest: str,
    referrers: Sequence[Referrer],
    retry_policy: RetryPolicy = _NONE,
) -> tuple[str, ...]:
    """Attach documents to an image in the registry; returns their digests. Raises RegistryError."""
    with RegistryClient(registry, retry_policy) as client:
        listed = [_push(client, repository, referrer) for referrer in referrers]
        missing = [entry for entry, kept in listed if not kept]
        if missing:
            _extend_index(client, repository, digest, missing)
    return tuple(referrer.digest for referrer in referrers)


def fetch_referrers(
    registry: Registry, repository: str, digest: str, kinds: str | Collection[str]
) -> tuple[Referrer, ...]:
    """The registry's documents of these artifact types for an image. Raises RegistryError."""
    wanted = {kinds} if isinstance(kinds, str) else set(kinds)
    with RegistryClient(registry) as client:
        pages: list[bytes | None] = [*client.referrers(repository, digest)]
        pages = pages or [client.manifest(repository, fallback_tag(digest), accept=INDEX_TYPE)]
        entries = [entry for raw in pages for entry in _entries(raw) if _may_have_kind(entry, wanted)]
        if len(entries) > _MAX_REFERRERS:
            # the first of them are no sample: what is left out may be a failed test
            raise RegistryError(f"{repository}@{digest} has more than {_MAX_REFERRERS} documents of these kinds")
        found = [_fetch(client, repository, str(entry["digest"])) for entry in entries]
    return tuple(item for item in found if item is not None and item.document.kind in wanted)


def fetch_manifest(registry: Registry, repository: str, reference: str) -> bytes:
    """The registry's manifest for a tag or digest. Raises RegistryError."""
    with RegistryClient(registry) as client:
        data = client.manifest(repository, reference, accept=_ACCEPTED)
    if data is None:
        raise RegistryError(f"registry {registry.url} has no {repository}:{reference}")
    return data


def _push(client: RegistryClient, repository: str, referrer: Referrer) -> tuple[Descriptor, bool]:
    """Store a referrer; returns its descriptor, and whether the registry itself lists it."""
    for data in (EMPTY, referrer.document.data):
        client.put_blob(repository, data)
    headers = client.put_manifest(repository, referrer.digest, referrer.manifest, MANIFEST_TYPE)
    descriptor: Descriptor = {
        "mediaType": MANIFEST_TYPE,
        "digest": referrer.digest,
        "size": len(referrer.manifest),
        "artifactType": referrer.document.kind,
        "annotations": referrer.document.annotations,
    }
    return descriptor, "OCI-Subject" in headers


def _extend_index(client: RegistryClient, repository: str, digest: str, missing: Sequence[Descriptor]) -> None:
    tag = fallback_tag(digest)
    before = _entries(client.manifest(repository, tag, accept=INDEX_TYPE))
    known = {entry["digest"] for entry in before}
    added = [entry for entry in missing if entry["digest"] not in known]
    if added:
        index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [*before, *added]}
        client.put_manifest(repository, tag, json.dumps(index, sort_keys=True).encode(), INDEX_TYPE)


def _entries(raw: bytes | None) -> list[Descriptor]:
    if raw is None:
        return []
    try:
        found = json.loads(raw).get("manifests") or []
        return [entry for entry in found if isinstance(entry.get("digest"), str)]
    except (ValueError, AttributeError, TypeError) as error:
        raise RegistryError("the list of referrers in the registry cannot be read; remove its tag") from error


def _may_have_kind(entry: Descriptor, kinds: Collection[str]) -> bool:
    return "artifactType" not in entry or str(entry["artifactType"]) in kinds


def _fetch(client: RegistryClient, repository: str, digest: str) -> Referrer | None:
    raw = client.manifest(repository, digest, accept=MANIFEST_TYPE)
    if raw is None:
        return None
    if digest_of(raw) != digest:
        raise RegistryError(f"the registry returned another manifest for {repository}@{digest}")
    manifest = json.loads(raw)
    layers = manifest.get("layers") or []
    if len(layers) != 1:
        return None
    data = client.blob(repository, str(layers[0]["digest"]))
    return None if data is None else Referrer(digest, raw, document_of(manifest, data))
