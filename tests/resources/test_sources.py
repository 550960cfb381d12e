"""Documents behind s3:// URIs, read from a real S3 endpoint (moto's server)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from imagesmith.resources.errors import ApiError
from imagesmith.resources.sources import s3_reader
from imagesmith.settings import Quotas, Settings
from testing.object_store import s3_client, s3_endpoint


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """An S3 endpoint on a free loopback port."""
    with s3_endpoint() as url:
        yield url


@pytest.fixture
def settings(endpoint: str, tmp_path: Path) -> Settings:
    secret = tmp_path / "secret"
    secret.write_text("secret\n")
    client = s3_client(endpoint, "documents")
    client.put_object(Bucket="documents", Key="deep/hello.yml", Body="name: hällo\n".encode())
    client.put_object(Bucket="documents", Key="binary", Body=b"\xff\xfe")
    client.put_object(Bucket="documents", Key="large", Body=b"x" * 5000)
    return Settings(
        data_dir=tmp_path, s3_endpoint_url=endpoint, s3_access_key_id="key", s3_secret_key_file=str(secret),
        quotas=Quotas(document_bytes=1000),
    )  # fmt: skip


def test_an_object_is_read_as_text(settings: Settings) -> None:
    """Key prefixes and UTF-8 survive."""
    assert s3_reader(settings)("uri", "s3://documents/deep/hello.yml") == "name: hällo\n"


def test_a_large_object_is_read_only_as_far_as_it_may_be(settings: Settings) -> None:
    """One byte over the quota is enough to refuse it later."""
    assert len(s3_reader(settings)("uri", "s3://documents/large")) == 1001


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("s3://documents/missing", "NoSuchKey"),
        ("s3://no-such-bucket/key", "NoSuchBucket"),
        ("s3://documents/binary", "not UTF-8"),
        ("s3://documents", "not of the form"),
        ("https://documents/key", "not of the form"),
    ],
)
def test_an_object_that_cannot_be_used_names_its_member(settings: Settings, uri: str, text: str) -> None:
    """The error is the documented one, with the URI and the cause."""
    with pytest.raises(ApiError) as refusal:
        s3_reader(settings)("dockerfileTemplateUri", uri)
    assert refusal.value.code == "InvalidParameterValueException"
    assert "'dockerfileTemplateUri'" in refusal.value.message and text in refusal.value.message


def test_an_unreachable_endpoint_is_a_client_error(settings: Settings, tmp_path: Path) -> None:
    """The caller learns that the object could not be had."""
    away = replace(settings, s3_endpoint_url="http://127.0.0.1:9")
    with pytest.raises(ApiError) as refusal:
        s3_reader(away)("uri", "s3://documents/deep/hello.yml")
    assert refusal.value.code == "ClientException"
