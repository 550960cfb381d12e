"""Provenance: what a statement says, how it is signed, and that no change to it goes unnoticed."""

from __future__ import annotations

import base64
import dataclasses
import json
import stat
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesmith.inspection.provenance import Provenance, RunDetails, statement, verify
from imagesmith.inspection.resolved_dependencies import image_uri
from imagesmith.inspection.signing import PublicKey, SigningError, SigningKey, open_envelope, public_key_path
from imagesmith.inspection.statements import VerificationFailed
from imagesmith.recipes.plan import BuildPlan, PlannedComponent, PlannedDocument, PlannedParent, PlannedWorkflow
from imagesmith.values.masking import masked
from imagesmith.values.names import sha256_hex
from testing.sbom_samples import INVENTORY

DIGEST = "sha256:" + "ab" * 32
PARENT = "sha256:" + "cd" * 32
IMAGE = "arn:aws:imagebuilder:us-east-1:000000000000:image/web/1.0.0/3"
COMPONENT = PlannedComponent(
    "arn:aws:imagebuilder:us-east-1:000000000000:component/app/1.0.0/1",
    "name: app\n",
    {"Greeting": "hello", "DbPassword": "hunter2", "API_KEY": "k"},
)
PLAN = BuildPlan(
    image_arn=IMAGE, account="000000000000", region="us-east-1", name="web", version="1.0.0", build=3,
    kind="container", parent=PlannedParent("registry", "registry.example/base:1"), components=(COMPONENT,),
    dockerfile="FROM x\n", working_directory="/tmp", tests_enabled=True, tests_timeout_minutes=1,
    collect_metadata=True, targets=(),
)  # fmt: skip
FACTS = RunDetails(
    "web:1.0.0-3", DIGEST, PARENT,
    datetime(2026, 11, 23, 12, 0, tzinfo=UTC), datetime(2026, 11, 23, 12, 1, tzinfo=UTC), "key",
)  # fmt: skip


def test_components_that_others_ran_are_dependencies() -> None:
    """Each build once, by its digest, whatever the ARN was that a step named it by."""
    one = PlannedDocument("arn:x.x.x", "arn:leaf/1", "name: leaf\n")
    again = dataclasses.replace(one, asked="arn:1.0.0")
    plan = dataclasses.replace(PLAN, components=(dataclasses.replace(COMPONENT, documents=(one, again)),))
    definition = json.loads(statement(plan, FACTS))["predicate"]["buildDefinition"]
    assert definition["resolvedDependencies"][2:] == [
        {"name": "document", "uri": "arn:leaf/1", "digest": {"sha256": sha256_hex("name: leaf\n")}}
    ]
    assert BuildPlan.from_json(plan.to_json()) == plan


def test_every_package_is_a_dependency() -> None:
    """By its package-url, with the source that it was built from; workflows by their digest."""
    workflow = PlannedWorkflow("arn:workflow/1", "TEST", "name: test\n")
    document = json.loads(statement(dataclasses.replace(PLAN, workflows=(workflow,)),
                                    dataclasses.replace(FACTS, inventory=INVENTORY)))  # fmt: skip
    _, _, tested, *packages = document["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert tested == {"name": "workflow", "uri": "arn:workflow/1", "digest": {"sha256": sha256_hex("name: test\n")}}
    url = "pkg:deb/debian/libssl3@3.0.11-1?arch=amd64&distro=debian-12&upstream=openssl%403.0.11"
    assert packages[0] == {
        "name": "package libssl3 3.0.11-1",
        "uri": url,
        "annotations": {"source": "openssl 3.0.11"},
    }
    assert packages[1:] == [{"name": "package Jinja2 3.1.2", "uri": "pkg:pypi/jinja2@3.1.2"}] * 2


@pytest.mark.parametrize(
    ("reference", "uri"),
    [
        ("registry.example:5000/a/b", "pkg:oci/b?repository_url=registry.example:5000/a/b"),
        ("docker://h/B:1.0", "pkg:oci/b?repository_url=h/B&tag=1.0"),
        ("h/b@sha256:00", "pkg:oci/b@sha256:00?repository_url=h/b"),
        ("h/b:1@sha256:00", "pkg:oci/b@sha256:00?repository_url=h/b&tag=1"),
        ("base", "base"), ("base:1", "base:1"), ("h/", "h/"), ("", ""),
    ],
)  # fmt: skip
def test_the_uri_of_a_parent_is_a_package_url(reference: str, uri: str) -> None:
    """What does not name a registry stays as it was written."""
    assert image_uri(reference, "") == uri


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return SigningKey.open(tmp_path)


def test_a_statement_names_everything_that_went_in() -> None:
    """Parent, component, document and Dockerfile by digest; times, builder and version; secrets masked."""
    document = json.loads(statement(PLAN, FACTS))
    assert (document["_type"], document["predicateType"]) == (
        "https://in-toto.io/Statement/v1",
        "https://slsa.dev/provenance/v1",
    )
    assert document["subject"] == [{"name": "web:1.0.0-3", "digest": {"sha256": "ab" * 32}}]
    definition = document["predicate"]["buildDefinition"]
    assert definition["resolvedDependencies"] == [
        {
            "name": "parent", "uri": f"pkg:oci/base@{PARENT}?repository_url=registry.example/base&tag=1",
            "digest": {"sha256": "cd" * 32}, "annotations": {"reference": "registry.example/base:1"},
        },
        {"name": "component", "uri": COMPONENT.arn, "digest": {"sha256": sha256_hex("name: app\n")}},
    ]  # fmt: skip
    assert definition["internalParameters"] == {
        "cache": {"reads": True, "components": False, "maxAgeSeconds": None}, "network": "outbound", "pushedTo": [],
    }  # fmt: skip
    assert definition["externalParameters"]["components"][0]["parameters"] == {
        "Greeting": "hello", "DbPassword": "***", "API_KEY": "***",
    }  # fmt: skip
    assert definition["externalParameters"]["dockerfile"]["digest"] == {"sha256": sha256_hex("FROM x\n")}
    assert document["predicate"]["runDetails"]["metadata"]["startedOn"] == "2026-11-23T12:00:00.000Z"
    assert b"hunter2" not in statement(PLAN, FACTS)


@pytest.mark.parametrize("name", ["password", "DB_PASSWD", "githubToken", "ClientSecret", "AwsAccessKey", "apikey"])
def test_names_of_secrets_are_masked(name: str) -> None:
    """A name that contains a secret's word is masked, others are shown."""
    assert masked(name, "x") == "***"
    assert masked("Greeting", "x") == "x"


def test_a_signed_statement_is_read_back(key: SigningKey) -> None:
    """Who, what and when come out of a verified envelope."""
    found = verify(key.envelope(statement(PLAN, FACTS)), DIGEST, (key.public,))
    assert isinstance(found, Provenance)
    assert (found.image, found.parent, found.parent_digest) == (IMAGE, "registry.example/base:1", PARENT)
    assert found.components == (COMPONENT.arn,)
    assert (found.key, found.started) == (key.public.id, "2026-11-23T12:00:00.000Z")


def test_another_image_does_not_fit(key: SigningKey) -> None:
    """A genuine provenance moved to another image is refused, and both digests are named."""
    with pytest.raises(VerificationFailed, match=r"describes sha256:abab.*not sha256:ef"):
        verify(key.envelope(statement(PLAN, FACTS)), "sha256:" + "ef" * 32, (key.public,))


def test_another_key_does_not_fit(key: SigningKey, tmp_path: Path) -> None:
    """What a stranger signed is refused."""
    stranger = SigningKey.open(tmp_path / "stranger")
    with pytest.raises(VerificationFailed, match="no signature matches"):
        verify(stranger.envelope(statement(PLAN, FACTS)), DIGEST, (key.public,))


def tampered(envelope: bytes, **changes: Any) -> bytes:
    return json.dumps({**json.loads(envelope), **changes}).encode()


def test_a_changed_payload_or_type_is_noticed(key: SigningKey) -> None:
    """One other word in the statement, or the same bytes as another type, and the signature no longer holds."""
    envelope = key.envelope(statement(PLAN, FACTS))
    payload = base64.b64decode(json.loads(envelope)["payload"]).replace(b"registry.example", b"registry.attacks")
    with pytest.raises(VerificationFailed, match="no signature matches"):
        verify(tampered(envelope, payload=base64.b64encode(payload).decode()), DIGEST, (key.public,))
    with pytest.raises(VerificationFailed, match=r"expected 'application/vnd\.in-toto"):
        verify(tampered(envelope, payloadType="text/plain"), DIGEST, (key.public,))
    with pytest.raises(VerificationFailed):
        verify(tampered(envelope, signatures=[]), DIGEST, (key.public,))


def test_signed_nonsense_is_no_provenance(key: SigningKey) -> None:
    """What this key signed, but is no statement or no provenance, is refused by name."""
    for payload in (
        b"{}",
        b"[]",
        b"no json",
        json.dumps({"_type": "x", "predicateType": "y", "subject": []}).encode(),
    ):
        with pytest.raises(VerificationFailed):
            verify(key.envelope(payload), DIGEST, (key.public,))


@given(st.binary(max_size=80))
def test_any_bytes_are_no_envelope(data: bytes) -> None:
    """Whatever a registry gives, the answer is one kind of error."""
    with pytest.raises(SigningError):
        open_envelope(data, ())


@given(position=st.integers(0, 10_000), value=st.integers(0, 255))
def test_no_changed_byte_gives_another_statement(
    tmp_path_factory: pytest.TempPathFactory, position: int, value: int
) -> None:
    """An envelope with one other byte is refused, or says the same as before."""
    key = SigningKey.open(tmp_path_factory.getbasetemp())
    envelope = bytearray(key.envelope(statement(PLAN, FACTS)))
    envelope[position % len(envelope)] = value
    try:
        found = verify(bytes(envelope), DIGEST, (key.public,))
    except VerificationFailed:
        return
    assert found.statement == json.loads(statement(PLAN, FACTS))


def test_the_key_is_made_once_and_kept_secret(tmp_path: Path) -> None:
    """Made at first use with mode 0600; opened by many at once, all have the same; the public half can be read."""
    keys: list[str] = []
    threads = [threading.Thread(target=lambda: keys.append(SigningKey.open(tmp_path).public.id)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(keys)) == 1 and len(keys) == 8
    assert stat.S_IMODE((tmp_path / "signing" / "ed25519.pem").stat().st_mode) == 0o600
    assert PublicKey.read(public_key_path(tmp_path)).id == keys[0]
    assert {item.name for item in (tmp_path / "signing").iterdir()} == {"ed25519.pem", "ed25519.pub"}


def test_a_key_that_is_no_key_is_an_error(tmp_path: Path) -> None:
    """Both halves name their file."""
    (tmp_path / "signing").mkdir()
    (tmp_path / "signing" / "ed25519.pem").write_text("nothing")
    with pytest.raises(SigningError, match=r"ed25519\.pem"):
        SigningKey.open(tmp_path)
    with pytest.raises(SigningError, match=r"ed25519\.pub"):
        PublicKey.read(public_key_path(tmp_path))
