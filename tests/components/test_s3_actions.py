"""S3Download and S3Upload against a real S3 server (spec/components.md 10.7, 10.8)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from imagesmith.components.services import S3Config, Services
from testing.component_support import Ran, RunText, error, one_step
from testing.object_store import s3_client, s3_endpoint


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_endpoint() as url:
        yield url


@pytest.fixture
def bucket(endpoint: str) -> Iterator[Any]:
    """An empty bucket, by its client."""
    client = s3_client(endpoint, "stock")
    yield client
    for item in client.list_objects_v2(Bucket="stock").get("Contents", ()):
        client.delete_object(Bucket="stock", Key=item["Key"])
    client.delete_bucket(Bucket="stock")


@pytest.fixture
def act(run_text: RunText, endpoint: str) -> Any:
    def run(action: str, *entries: dict[str, Any]) -> Ran:
        services = Services(s3=S3Config(endpoint, "us-east-1", "a", "b"))
        return run_text(one_step(action, list(entries)), services=services)

    return run


def put(client: Any, **objects: str) -> None:
    for key, body in objects.items():
        client.put_object(Bucket="stock", Key=key.replace("__", "/"), Body=body.encode())


def keys(client: Any) -> list[str]:
    return [item["Key"] for item in client.list_objects_v2(Bucket="stock").get("Contents", ())]


def test_download_one(act: Any, bucket: Any) -> None:
    """One object becomes a file, folders included; a separator at the end keeps its name."""
    put(bucket, dir__one="1")
    ran = act(
        "S3Download",
        {"source": "s3://stock/dir/one", "destination": "a/b/x"},
        {"source": "s3://stock/dir/one", "destination": "c/", "expectedBucketOwner": "123456789012"},
    )
    assert ran.status == "success", ran.log
    assert [(ran.folder / name).read_text() for name in ("a/b/x", "c/one")] == ["1", "1"]


def test_download_prefix(act: Any, bucket: Any) -> None:
    """A prefix brings everything below it in the structure of its keys."""
    put(bucket, p__one="1", p__sub__two="2", pother="3", p__folder__="")
    ran = act("S3Download", {"source": "s3://stock/p/*", "destination": "out"})
    assert ran.status == "success", ran.log
    found = sorted(str(path.relative_to(ran.folder)) for path in ran.folder.rglob("*") if path.is_file())
    assert found == ["out/one", "out/sub/two"]


def test_download_errors(act: Any, bucket: Any) -> None:
    """Missing objects, buckets and matches, and a refused overwrite, are errors that name the address."""
    put(bucket, one="1")
    assert "s3://stock/none" in error(act("S3Download", {"source": "s3://stock/none", "destination": "x"}))
    assert "NoSuchBucket" in error(act("S3Download", {"source": "s3://nobucket/x", "destination": "x"}))
    assert "no object matches" in error(act("S3Download", {"source": "s3://stock/z/*", "destination": "x"}))
    refused = act(
        "S3Download",
        {"source": "s3://stock/one", "destination": "x"},
        {"source": "s3://stock/one", "destination": "x", "overwrite": False},
    )
    assert error(refused).startswith('S3Download: File already exists and "overwrite" property')
    assert (refused.folder / "x").read_text() == "1"


def test_keys_cannot_leave_the_destination(act: Any, bucket: Any) -> None:
    """A key with `..` is refused instead of landing elsewhere."""
    put(bucket, **{"p/../../evil": "1"})
    ran = act("S3Download", {"source": "s3://stock/p/*", "destination": "out/deep"})
    assert "would leave the destination" in error(ran)


def test_upload(act: Any, bucket: Any) -> None:
    """Files, matches and folders go to keys and prefixes."""
    ran = act("S3Upload", {"source": "none", "destination": "s3://stock/x"})
    assert error(ran)
    for name in ("one.txt", "two.txt", "three.md", "sub.txt/deep", "sub.txt/more/last"):
        (ran.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (ran.folder / name).write_text(name)
    act(
        "S3Upload",
        {"source": "one.txt", "destination": "s3://stock/file/key"},
        {"source": "one.txt", "destination": "s3://stock/file/"},
    )
    assert keys(bucket) == ["file/key", "file/one.txt"]
    act("S3Upload", {"source": "*.txt", "destination": "s3://stock/flat/"})
    assert [key for key in keys(bucket) if key.startswith("flat/")] == ["flat/one.txt", "flat/two.txt"]
    act("S3Upload", {"source": f"{ran.folder}/*.txt", "destination": "s3://stock/deep", "recurse": "true"})
    assert [key for key in keys(bucket) if key.startswith("deep/")] == [
        "deep/one.txt",
        "deep/sub.txt/deep",
        "deep/sub.txt/more/last",
        "deep/two.txt",
    ]
    assert "needs 'recurse: true'" in error(act("S3Upload", {"source": "sub.txt", "destination": "s3://stock/f/"}))
    act("S3Upload", {"source": "sub.txt/", "destination": "s3://stock/f/", "recurse": True})
    assert [key for key in keys(bucket) if key.startswith("f/")] == ["f/deep", "f/more/last"]
    assert bucket.get_object(Bucket="stock", Key="f/more/last")["Body"].read() == b"sub.txt/more/last"
    assert "no file matches" in error(act("S3Upload", {"source": "*.zip", "destination": "s3://stock/z/"}))
