"""The files beside a disk that leaves: what it is, and who says so, for tools that do not know imagesmith.

    web.vmdk.sha256          for `sha256sum -c`
    web.vmdk.sigstore.json   the provenance as a Sigstore bundle, about this file and the disk of the build
    web.vmdk.spdx.json       the inventory, and a signed statement of it about this file and the disk
    web.vmdk.spdx.sigstore.json
    web.vmdk.cdx.json
    web.vmdk.cdx.sigstore.json
    web.vmdk.test-result.sigstore.json, .vulnerabilities, .approval
    web.vmdk.vsa.sigstore.json   the verification summary: what was checked, in one signature

A disk without an inventory, or whose provenance another key signed, lacks those files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from imagesmith.artifacts.disks import DiskStore
from imagesmith.artifacts.intact import digest_of_path
from imagesmith.distribution.summaries import summary_of
from imagesmith.inspection.provenance import beside_disk
from imagesmith.inspection.signing import SigningError, SigningKey, open_envelope
from imagesmith.inspection.sigstore import bundle
from imagesmith.inspection.statements import Predicate, Subject, statement_bytes, subject
from imagesmith.store.amis import Ami
from imagesmith.values.names import canonical_json

BUNDLE = ".sigstore.json"
_PARTS = {Predicate.PROVENANCE: "", Predicate.SPDX: ".spdx", Predicate.CYCLONEDX: ".cdx", Predicate.SUMMARY: ".vsa"}
"""What stands before `.sigstore.json`; for others the slug."""
_INVENTORIES = ((".spdx", "spdx.json", Predicate.SPDX), (".cdx", "cyclonedx.json", Predicate.CYCLONEDX))


def companions(disks: DiskStore, ami: Ami, file: Path, key: SigningKey, at: datetime) -> Mapping[str, bytes]:
    """Suffix -> content, for the file that the disk of an AMI was written to. Raises OSError, SigningError."""
    digest = digest_of_path(file).removeprefix("sha256:")
    beside = {".sha256": f"{digest}  {file.name}\n".encode()}
    documents = disks.documents(ami.digest)
    subjects = [subject(file.name, digest)]
    for predicate in (Predicate.PROVENANCE, Predicate.TEST_RESULT, Predicate.VULNERABILITIES, Predicate.APPROVAL):
        held = documents.get(beside_disk(predicate, ami.image_arn))
        if held is not None and (signed := _signed_again(held.read_bytes(), subjects, key)):
            beside[bundle_suffix(predicate)] = signed
    both = [*subjects, subject(ami.name, ami.digest)]

    def signed_by_us(predicate: Predicate, data: bytes) -> bytes:
        return bundle(key.envelope(statement_bytes(both, predicate, data)), key.public)

    for suffix, name, predicate in _INVENTORIES:
        if name in documents:
            data = documents[name].read_bytes()
            beside |= {f"{suffix}.json": data, suffix + BUNDLE: signed_by_us(predicate, data)}
    names = {beside_disk(predicate, ami.image_arn): predicate for predicate in Predicate}
    statements = [(names[name], path.read_bytes()) for name, path in documents.items() if name in names]
    content = summary_of(statements, f"{file.name}@sha256:{digest}", ami.digest, key, at)
    if content is not None:
        beside[bundle_suffix(Predicate.SUMMARY)] = signed_by_us(Predicate.SUMMARY, canonical_json(content).encode())
    return beside


def bundle_suffix(predicate: Predicate) -> str:
    """The end of the name of a statement's bundle beside a file: `.test-result.sigstore.json`."""
    return _PARTS.get(predicate, f".{predicate.slug}") + BUNDLE


def write_companions(target: Path, beside: Mapping[str, bytes]) -> Mapping[str, Path]:
    """Write them beside a file; returns suffix -> path. Raises OSError."""
    paths = {suffix: target.with_name(target.name + suffix) for suffix in beside}
    for suffix, path in paths.items():
        path.write_bytes(beside[suffix])
    return paths


def _signed_again(envelope: bytes, subjects: Sequence[Subject], key: SigningKey) -> bytes:
    """The provenance with the written file as its first subject; empty if it is not of this key."""
    try:
        payload, _ = open_envelope(envelope, (key.public,))
        document: Any = json.loads(payload)
        document["subject"] = [*subjects, *document["subject"]]
    except (SigningError, ValueError, KeyError, TypeError):
        return b""
    return bundle(key.envelope(canonical_json(document).encode()), key.public)
