"""What is attached to an image in a registry, checked by programs that know nothing of us."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer._key import SSlibKey

from imagesmith.artifacts.layout import OciLayout
from imagesmith.artifacts.referrers import Document, attach
from imagesmith.artifacts.retry_policy import RetryPolicy
from imagesmith.distribution.attest import attest
from imagesmith.distribution.client import RegistryClient
from imagesmith.distribution.cosign import attestation_tag, fetch_names, signature_tag
from imagesmith.distribution.push import push_image
from imagesmith.distribution.referrers import fetch_referrers
from imagesmith.inspection.provenance import KIND, MEDIA_TYPE
from imagesmith.inspection.sbom.cyclonedx import cyclonedx_document
from imagesmith.inspection.sbom.spdx import spdx_document
from imagesmith.inspection.signing import SigningKey, public_key_path
from imagesmith.inspection.sigstore import BUNDLE_TYPE
from imagesmith.inspection.statements import Predicate, statement_bytes, subject
from imagesmith.processes import Cancellation
from imagesmith.settings import Registry
from testing.client_runs import MODULES, NODE, TESTS
from testing.registry_support import RunningRegistry, write_layout
from testing.sbom_samples import IMAGE, INVENTORY

pytestmark = pytest.mark.tool

TOOLS = Path(sys.executable).parent
VERIFY_JS = TESTS / "testing/verify_bundle.cjs"
NO_ROOT = {"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}
"""A trust root without an authority: only the key counts, and nothing is fetched."""


@dataclass(frozen=True)
class Attested:
    """An image that was pushed and attested."""

    folder: Path
    layout: OciLayout
    registry: Registry
    repository: str
    digest: str
    key: SigningKey

    def attest(self) -> tuple[str, ...]:
        return attest(
            self.layout, self.registry, self.repository, self.digest, self.key, RetryPolicy(), datetime.now(UTC)
        )

    def cosign(self, command: str, *words: str, status: int = 0, repository: str = "") -> str:
        """The output of a cosign command about the image, offline."""
        uri = f"{self.registry.url}/{repository or self.repository}@{self.digest}"
        key = ("--key", str(public_key_path(self.folder)), "--insecure-ignore-tlog")
        plain = ("--allow-insecure-registry", "--allow-http-registry")
        argv = [str(TOOLS / "cosign"), command, *key, *plain, *words, uri]
        environment = {**os.environ, "HOME": str(self.folder)}
        done = subprocess.run(argv, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == status, done.stderr
        return done.stdout if status == 0 else done.stderr


def statement(digest: str, predicate: Predicate = Predicate.PROVENANCE) -> bytes:
    contents: dict[Predicate, Any] = {
        Predicate.PROVENANCE: {
            "buildDefinition": {"buildType": "urn:t"},
            "runDetails": {"builder": {"id": "urn:t"}},
        },
        Predicate.TEST_RESULT: {"result": "PASSED"},
        Predicate.VULNERABILITIES: {"scanner": {"result": {"findings": []}}},
        Predicate.APPROVAL: {"approvals": []},
        Predicate.SPDX: json.loads(spdx_document(IMAGE, INVENTORY, Cancellation())),
        Predicate.CYCLONEDX: json.loads(cyclonedx_document(IMAGE, INVENTORY, Cancellation())),
    }
    return statement_bytes([subject("web", digest)], predicate, json.dumps(contents[predicate]).encode())


def attested(folder: Path, host: str, repository: str) -> Attested:
    registry = Registry(host, insecure=True)
    digest = write_layout(folder / "oci", "web:1")
    push(folder, registry, repository, digest)
    layout, key = OciLayout(folder / "oci"), SigningKey.open(folder)
    for predicate in set(Predicate) - {Predicate.SUMMARY}:
        attach(layout, digest, Document(predicate.kind, MEDIA_TYPE, key.envelope(statement(digest, predicate))))
    image = Attested(folder, layout, registry, repository, digest, key)
    image.attest()
    return image


def push(folder: Path, registry: Registry, repository: str, digest: str) -> None:
    push_image(
        folder / "oci", "web:1", digest=digest, registry=registry, repository=repository, tags=["1"],
        retry_policy=RetryPolicy(), cancellation=None, on_line=lambda _: None,
    )  # fmt: skip


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory, open_registry: RunningRegistry) -> Attested:
    return attested(tmp_path_factory.mktemp("attested"), open_registry.host, "attested/web")


def test_cosign_verifies_the_signature_and_the_name(image: Attested) -> None:
    """`cosign verify` finds the signature by the image's digest; what it says is the repository."""
    (found,) = json.loads(image.cosign("verify"))
    assert found["critical"]["identity"]["docker-reference"] == f"{image.registry.url}/{image.repository}"
    assert found["critical"]["image"]["docker-manifest-digest"] == image.digest
    assert fetch_names(image.registry, image.repository, image.digest, image.key.public) == (
        f"{image.registry.url}/{image.repository}",
    )


COSIGN_TYPES = {
    "slsaprovenance1": Predicate.PROVENANCE, "spdxjson": Predicate.SPDX, "cyclonedx": Predicate.CYCLONEDX,
    "vuln": Predicate.VULNERABILITIES, str(Predicate.TEST_RESULT): Predicate.TEST_RESULT,
    str(Predicate.APPROVAL): Predicate.APPROVAL, str(Predicate.SUMMARY): Predicate.SUMMARY,
}  # fmt: skip


@pytest.mark.parametrize("kind", COSIGN_TYPES)
def test_cosign_verifies_each_statement_in_both_forms(image: Attested, tmp_path: Path, kind: str) -> None:
    """The `.att` tag of cosign 2, and the Sigstore bundle of cosign 3, which is a referrer of the image."""
    (tmp_path / "root.json").write_text(json.dumps(NO_ROOT))
    forms = ((), ("--new-bundle-format", "--trusted-root", str(tmp_path / "root.json")))
    for form in forms:
        said = json.loads(image.cosign("verify-attestation", "--type", kind, *form).splitlines()[0])
        held = json.loads(base64.b64decode(said["payload"]))
        assert (said["payloadType"], held["predicateType"]) == (
            "application/vnd.in-toto+json", str(COSIGN_TYPES[kind]),
        )  # fmt: skip
        image.cosign("verify-attestation", "--type", "link", *form, status=1)


def test_in_totos_library_accepts_the_envelope(image: Attested) -> None:
    """By the id of the key that it computes itself; another key's is refused."""
    (kept,) = fetch_referrers(image.registry, image.repository, image.digest, KIND)
    envelope = Envelope.from_dict(json.loads(kept.document.data))
    assert list(envelope.verify([library_key(public_key_path(image.folder))], 1)) == [image.key.public.envelope_id]


def test_in_totos_library_refuses_another_key(image: Attested, tmp_path: Path) -> None:
    """Nothing that a stranger signed counts."""
    (kept,) = fetch_referrers(image.registry, image.repository, image.digest, KIND)
    stranger = SigningKey.open(tmp_path)
    assert stranger.public.id != image.key.public.id
    with pytest.raises(VerificationError):
        Envelope.from_dict(json.loads(kept.document.data)).verify([library_key(public_key_path(tmp_path))], 1)


def library_key(path: Path) -> SSlibKey:
    return SSlibKey.from_crypto(serialization.load_pem_public_key(path.read_bytes()))


@pytest.mark.parametrize("changed", [False, True])
def test_sigstore_js_verifies_the_bundle(image: Attested, tmp_path: Path, changed: bool) -> None:
    """npm's own verifier, by the hint of the key; a changed statement is refused."""
    bundles = fetch_referrers(image.registry, image.repository, image.digest, BUNDLE_TYPE)
    assert len(bundles) == len(Predicate)
    for kept in bundles:
        held: Any = json.loads(kept.document.data)
        if changed:
            held["dsseEnvelope"]["payload"] = image.key.envelope(statement("sha256:" + "0" * 64)).decode()[12:300]
        (tmp_path / "bundle.json").write_text(json.dumps(held))
        argv = [str(NODE), str(VERIFY_JS), str(tmp_path / "bundle.json"), str(public_key_path(image.folder))]
        environment = {**os.environ, "NODE_PATH": str(MODULES / "node_modules")}
        done = subprocess.run(argv, capture_output=True, text=True, env=environment, check=False)
        assert (done.returncode == 0, done.stdout == "verified\n") == (not changed, not changed), done.stderr


def test_a_stripped_image_is_refused_until_it_is_attested_again(
    tmp_path: Path, open_registry: RunningRegistry
) -> None:
    """Without its tags nothing verifies; attesting again brings all back, and twice is once."""
    image = attested(tmp_path, open_registry.host, "attested/stripped")
    with RegistryClient(image.registry) as client:
        for tag in (signature_tag(image.digest), attestation_tag(image.digest)):
            client.delete_manifest(image.repository, client.digest_of_tag(image.repository, tag))
    assert fetch_names(image.registry, image.repository, image.digest, image.key.public) == ()
    assert "no signatures found" in image.cosign("verify", status=10)
    assert image.attest() == image.attest() == (BUNDLE_TYPE, *sorted(item.kind for item in Predicate))
    assert len(json.loads(image.cosign("verify"))) == 1
    image.cosign("verify-attestation", "--type", "slsaprovenance1")


def test_the_signatures_of_others_stay(tmp_path: Path, open_registry: RunningRegistry) -> None:
    """Two keys sign one image; each finds its own name, and nobody's word is taken for the other's."""
    image = attested(tmp_path / "one", open_registry.host, "attested/two")
    other = SigningKey.open(tmp_path / "two")
    attest(image.layout, image.registry, image.repository, image.digest, other, RetryPolicy(), datetime.now(UTC))
    names = {key.public.id: fetch_names(image.registry, image.repository, image.digest, key.public)
             for key in (image.key, other)}  # fmt: skip
    assert set(names.values()) == {(f"{image.registry.url}/{image.repository}",)}
    with RegistryClient(image.registry) as client:
        raw = client.manifest(
            image.repository, signature_tag(image.digest), accept="application/vnd.oci.image.manifest.v1+json"
        )
    assert raw is not None and len(json.loads(raw)["layers"]) == 2
    image.cosign("verify")
