"""Statements: bounded, and about one image and one kind of thing; an image cannot speak about itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imagesmith.artifacts.rootfs import Root
from imagesmith.inspection.inventory import take_inventory
from imagesmith.inspection.signing import SigningError, SigningKey
from imagesmith.inspection.statements import (
    KINDS,
    MAX_STATEMENT,
    Predicate,
    VerificationFailed,
    open_statement,
    statement_bytes,
    subject,
)
from imagesmith.processes import Cancellation
from testing.inventories import write

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize("predicate", Predicate)
def test_a_statement_is_read_as_what_it_is_and_nothing_else(tmp_path: Path, predicate: Predicate) -> None:
    """Each kind has an artifact type of its own; asked for as any other kind it is refused."""
    key = SigningKey.open(tmp_path)
    envelope = key.envelope(statement_bytes([subject("web", DIGEST)], predicate, b'{"a": 1}\n'))
    assert open_statement(envelope, DIGEST, [key.public], predicate).predicate == {"a": 1}
    assert KINDS[predicate.kind] is predicate and len(KINDS) == len(Predicate)
    for other in set(Predicate) - {predicate}:
        with pytest.raises(VerificationFailed, match=r"the signed statement is .*, expected"):
            open_statement(envelope, DIGEST, [key.public], other)
    with pytest.raises(VerificationFailed, match=r"describes sha256:abab.*, not sha256:cdcd"):
        open_statement(envelope, "sha256:" + "cd" * 32, [key.public], predicate)


@pytest.mark.parametrize(
    "payload",
    [b"", b"[]", b'{"_type": 1}', b'{"subject": 3}', b"[" * 100_000, b'{"predicate": []}'],
)
def test_a_signed_payload_of_another_form_is_no_statement(tmp_path: Path, payload: bytes) -> None:
    """Whatever the key signed, only a statement is one."""
    key = SigningKey.open(tmp_path)
    with pytest.raises(VerificationFailed, match="not an in-toto statement"):
        open_statement(key.envelope(payload), DIGEST, [key.public], Predicate.SPDX)


def test_the_predicate_must_be_an_object(tmp_path: Path) -> None:
    """Readers look for its members."""
    key = SigningKey.open(tmp_path)
    envelope = key.envelope(statement_bytes([subject("web", DIGEST)], Predicate.SPDX, b"[]"))
    with pytest.raises(VerificationFailed, match="is not an object"):
        open_statement(envelope, DIGEST, [key.public], Predicate.SPDX)


def test_a_document_that_no_reader_accepts_is_not_signed() -> None:
    """The SBOM of an image with too many packages is attached without a signature, and the reason is named."""
    with pytest.raises(SigningError, match="readers accept at most"):
        statement_bytes([subject("web", DIGEST)], Predicate.SPDX, bytes(MAX_STATEMENT + 1))


def test_an_sbom_in_the_image_is_not_believed(tmp_path: Path) -> None:
    """Documents and a provenance that lie in the image claim packages; the inventory has none of them."""
    url = dict(zip(("referenceCategory", "referenceType", "referenceLocator"),
                   ("PACKAGE-MANAGER", "purl", "pkg:deb/debian/x@1"), strict=True))  # fmt: skip
    claimed = {"SPDXID": "SPDXRef-x", "name": "claimed", "versionInfo": "1", "externalRefs": [url]}
    spdx = json.dumps({"spdxVersion": "SPDX-2.3", "packages": [claimed]})
    bom = json.dumps(
        {"bomFormat": "CycloneDX", "components": [{"type": "library", "name": "claimed", "version": "1"}]}
    )
    write(tmp_path, {
        "etc/os-release": "ID=debian\nVERSION_ID=12\n",
        "var/lib/dpkg/status": "Package: real\nStatus: install ok installed\nVersion: 1\n\n",
        "var/lib/db/sbom/claimed-1.spdx.json": spdx, "usr/share/sbom/claimed.cdx.json": bom, "sbom.json": bom,
        "opt/app/.spdx-app.spdx": spdx, "image.sigstore.json": spdx, "provenance.json": "{}",
    })  # fmt: skip
    with Root(tmp_path) as root:
        assert [item.name for item in take_inventory(root, Cancellation()).packages] == ["real"]
