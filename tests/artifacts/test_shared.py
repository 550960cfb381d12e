"""The store that hosts share: folders and buckets alike; images and disks on their way between hosts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config

from imagesmith.artifacts.disks import DiskError, DiskStore
from imagesmith.artifacts.exchange import Exchange
from imagesmith.artifacts.layout import LayoutError, OciLayout
from imagesmith.artifacts.referrers import Document, attach, attached
from imagesmith.artifacts.shared import NotShared, SharedStore, SharedStoreError
from imagesmith.artifacts.shared_kinds import open_shared_store
from imagesmith.processes import Cancellation, Cancelled, check
from testing.object_store import object_store
from testing.pipeline_support import write_image

LAYER = b"not really a layer, but bytes with a digest" * 1000


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture(scope="module")
def s3_client() -> Iterator[Any]:
    with object_store("shared", config=Config(retries={"max_attempts": 0})) as client:
        yield client


@pytest.fixture(params=["folder", "s3"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> SharedStore:
    if request.param == "folder":
        return open_shared_store(str(tmp_path / "shared"), lambda: None)
    client = request.getfixturevalue("s3_client")
    return open_shared_store(f"s3://shared/{tmp_path.name}/", lambda: client)


def test_a_blob_comes_back_as_it_was_put(shared: SharedStore, tmp_path: Path) -> None:
    """Putting it twice is allowed; a blob that was never put is NotShared and leaves no file."""
    (tmp_path / "source").write_bytes(LAYER)
    for _ in range(2):
        shared.put_blob(digest_of(LAYER), tmp_path / "source")
    shared.fetch_blob(digest_of(LAYER), tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == LAYER
    with pytest.raises(NotShared):
        shared.fetch_blob(digest_of(b"other"), tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


def test_a_damaged_source_is_not_put(shared: SharedStore, tmp_path: Path) -> None:
    """What does not have its digest never appears in the store."""
    (tmp_path / "source").write_bytes(b"damaged")
    with pytest.raises(SharedStoreError, match="is damaged"):
        shared.put_blob(digest_of(LAYER), tmp_path / "source")
    with pytest.raises(NotShared):
        shared.fetch_blob(digest_of(LAYER), tmp_path / "target")


def test_an_altered_blob_of_the_same_size_is_found_and_put_again(
    shared: SharedStore, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Somebody wrote other bytes over it: who fetches it is told and keeps no file; who has it puts it again."""
    digest = digest_of(LAYER)
    (tmp_path / "source").write_bytes(LAYER)
    shared.put_blob(digest, tmp_path / "source")
    altered = LAYER[:-1] + b"X"
    name = f"blobs/{digest.replace(':', '/')}"
    if shared.url.startswith("s3://"):
        client = request.getfixturevalue("s3_client")
        client.put_object(Bucket="shared", Key=f"{tmp_path.name}/{name}", Body=altered)
    else:
        Path(shared.url, name).write_bytes(altered)
    with pytest.raises(SharedStoreError, match=rf"{name} is damaged: it is {digest_of(altered)}, not {digest}"):
        shared.fetch_blob(digest, tmp_path / "target")
    assert not (tmp_path / "target").exists()
    shared.put_blob(digest, tmp_path / "source")
    shared.fetch_blob(digest, tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == LAYER


def test_a_cancelled_transfer_leaves_nothing(shared: SharedStore, tmp_path: Path) -> None:
    """Neither a blob in the store nor a file beside the target."""
    (tmp_path / "source").write_bytes(LAYER)
    cancellation = Cancellation()
    cancellation.cancel()
    with pytest.raises(Cancelled):
        shared.put_blob(digest_of(LAYER), tmp_path / "source", cancellation=cancellation)
    with pytest.raises(NotShared):
        shared.fetch_blob(digest_of(LAYER), tmp_path / "target")
    shared.put_blob(digest_of(LAYER), tmp_path / "source")
    with pytest.raises(Cancelled):
        shared.fetch_blob(digest_of(LAYER), tmp_path / "target", cancellation=cancellation)
    assert not (tmp_path / "target").exists()


def test_a_document_is_replaced(shared: SharedStore, tmp_path: Path) -> None:
    """Documents are by name, the last one counts; a copy of a file is one as well."""
    with pytest.raises(NotShared):
        shared.get("logs/a.log")
    shared.put("logs/a.log", b"one")
    (tmp_path / "log").write_bytes(b"one\ntwo\n")
    shared.put_file("logs/a.log", tmp_path / "log")
    assert shared.get("logs/a.log") == b"one\ntwo\n"


def test_a_folder_whose_drafts_were_removed_is_listed(tmp_path: Path) -> None:
    """An operator may tidy up: what is complete is named all the same."""
    shared = open_shared_store(str(tmp_path / "shared"), lambda: None)
    shared.put("logs/a.log", b"one")
    (tmp_path / "shared/drafts").rmdir()
    assert list(shared.names()) == ["logs/a.log"]


@pytest.mark.parametrize("name", ["../a", "/a", "a/../b", "a/..", ""])
def test_names_stay_inside(shared: SharedStore, name: str) -> None:
    """A name that leads out of the store is refused."""
    with pytest.raises(SharedStoreError, match="is not a name"):
        shared.put(name, b"")


@pytest.mark.parametrize("url", ["ftp://host/x", "relative/folder", "s3://"])
def test_an_address_that_is_no_store_is_refused(url: str) -> None:
    """The error names what was given and what is expected."""
    with pytest.raises(SharedStoreError, match=r"expected s3://"):
        open_shared_store(url, lambda: None)


@pytest.mark.tool
def test_an_image_reaches_another_host(shared: SharedStore, tmp_path: Path) -> None:
    """Another layout obtains it by digest, with its name and what is attached, and once only."""
    digest = write_image(tmp_path / "here", "team/web:1.0.0-1", LAYER, {})
    exchange = Exchange(shared)
    here = OciLayout(tmp_path / "here")
    document = Document("application/x-sbom", "application/json", b"{}")
    attach(here, digest, document)
    exchange.publish_image(here, digest, "team/web:1.0.0-1")
    there = OciLayout(tmp_path / "there", obtain=exchange.obtain_image)
    assert there.read(digest) == here.read(digest)
    assert exchange.resolve("team/web:1.0.0-1") == digest
    assert attached(there, digest)[0].document == document
    before = len(there.files.read_index())
    exchange.obtain_image(there.files, digest)
    assert len(there.files.read_index()) == before
    there.collect_garbage()
    assert there.blob(there.read(digest).layers[0])


def test_an_image_that_nobody_published_is_not_there(shared: SharedStore, tmp_path: Path) -> None:
    """The error names the image and the store; a layout without a store says it as before."""
    there = OciLayout(tmp_path / "there", obtain=Exchange(shared).obtain_image)
    with pytest.raises(LayoutError, match=r"is not in the layout .*images/"):
        there.read(digest_of(b"none"))


def test_a_forged_manifest_is_refused(shared: SharedStore, tmp_path: Path) -> None:
    """A document that names other images than its own brings nothing into the layout."""
    digest = digest_of(b"image")
    entry = {"digest": digest_of(b"other"), "mediaType": "m", "size": 1}
    shared.put(f"images/{digest.removeprefix('sha256:')}.json", json.dumps({"entries": [entry]}).encode())
    there = OciLayout(tmp_path / "there", obtain=Exchange(shared).obtain_image)
    with pytest.raises(LayoutError, match="damaged"):
        there.read(digest)
    assert there.files.read_index() == []


@pytest.mark.tool
def test_a_disk_reaches_another_host(shared: SharedStore, tmp_path: Path) -> None:
    """Another data directory obtains it by digest; one that nobody published is an error with the digest."""
    check(["qemu-img", "create", "-f", "qcow2", str(tmp_path / "disk"), "8M"], what="making a disk", timeout=60)
    exchange = Exchange(shared)
    here = DiskStore(tmp_path / "here")
    with here.draft() as draft:
        (tmp_path / "disk").rename(draft)
        disk = here.keep(draft)
    there = DiskStore(tmp_path / "there", obtain=exchange.obtain_disk)
    with pytest.raises(DiskError, match=disk.digest):
        there.get(disk.digest)
    exchange.publish_disk(here, disk.digest)
    assert there.get(disk.digest).path.read_bytes() == disk.path.read_bytes()
