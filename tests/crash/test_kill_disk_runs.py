"""kill -9 and cancel of runs without a build: imports and distributions of disks, on both databases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testing.crash_support import DATABASES, Tally
from testing.disks import raw_disk
from testing.leaks import assert_clean
from testing.machine_images import add_disk_file
from testing.object_store import object_store, store_settings
from testing.pipeline_support import REGION, Forge, RunningServer, eventually
from testing.postgresql import new_postgresql_database
from testing.socket_proxy import Gate, gate
from testing.workflow_support import ROLE

pytestmark = pytest.mark.tool

BUCKET = "disks"


@pytest.fixture
def bucket() -> Iterator[Any]:
    with object_store(BUCKET) as client:
        yield client


@pytest.fixture
def bucket_gate(bucket: Any) -> Iterator[Gate]:
    """What the server reaches the bucket through; it begins shut."""
    with gate(bucket.meta.endpoint_url.partition("://")[2]) as opened:
        yield opened


@pytest.fixture(params=DATABASES)
def disk_server(
    request: pytest.FixtureRequest, tmp_path: Path, tiny_parent: str, bucket_gate: Gate
) -> Iterator[RunningServer]:
    settings = store_settings(f"http://{bucket_gate.host}", tmp_path)
    if request.param == "postgresql":
        url = new_postgresql_database(request.getfixturevalue("postgresql"))
        settings = f'database_url = "{url}"\n{settings}'
    with RunningServer(tmp_path / "data", parent=tiny_parent, settings=settings) as running:
        yield running.start()
        running.stop()
        assert_clean(running)


def start_import(forge: Forge, address: str) -> str:
    return str(
        forge.client.import_vm_image(
            name=forge.name("disk"), semanticVersion="1.0.0", platform="Linux", vmImportTaskId=address
        )["imageArn"]
    )


def start_distribution(forge: Forge, ami_id: str, prefix: str) -> str:
    """A distribution to two Regions that ends with an export."""
    export = {"roleName": "vmie", "diskImageFormat": "RAW", "s3Bucket": BUCKET, "s3Prefix": prefix}
    entries = [{"region": REGION, "s3ExportConfiguration": export}]
    entries += [{"region": "eu-north-1", "amiDistributionConfiguration": {}}]
    made = forge.client.create_distribution_configuration(name=forge.name("dist"), distributions=entries)
    return str(
        forge.client.distribute_image(
            sourceImage=ami_id,
            distributionConfigurationArn=made["distributionConfigurationArn"],
            executionRole=ROLE,
        )["imageBuildVersionArn"]
    )


def test_killed_imports_and_distributions_end_once(
    disk_server: RunningServer, bucket: Any, bucket_gate: Gate, tmp_path: Path, tally: Tally
) -> None:
    """Killed while an object is read and while one is written; after the restart each is AVAILABLE with one AMI a
    Region, and no draft of a disk stays."""
    server = disk_server
    content = raw_disk(tmp_path / "disk.raw")
    bucket.upload_file(str(tmp_path / "disk.raw"), BUCKET, "disk.raw")
    source = add_disk_file(server.forge, tmp_path / "disk.raw")
    imported = start_import(server.forge, f"s3://{BUCKET}/disk.raw")
    prefix = f"{server.forge.name('exports')}/"  # servers of one process share what they store
    distributed = start_distribution(server.forge, source, prefix)
    eventually(lambda: server.forge.state(distributed) == "INTEGRATING", "the export begins", seconds=60)
    eventually(bucket_gate.waiting.is_set, "the bucket is asked", seconds=60)
    assert server.forge.state(imported) == "PENDING"
    server.kill()
    server.start()
    bucket_gate.open()
    forge = server.forge
    image = forge.finished(imported)
    [made] = image["outputResources"]["amis"]
    server.command("ami", "export", made["image"], str(tmp_path / "again.raw"), "--format", "raw")
    assert (tmp_path / "again.raw").read_bytes() == content
    copies = forge.finished(distributed)["outputResources"]["amis"]
    assert sorted(item["region"] for item in copies) == ["eu-north-1", REGION]
    [own] = [item["image"] for item in copies if item["region"] == REGION]
    listed = bucket.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]
    assert [item["Key"] for item in listed] == [f"{prefix}export-{own}.raw{end}" for end in ("", ".sha256")]
    known = json.loads(server.command("ami", "list", "--json"))
    assert len(known) == 4, "the source, the import, and two of the distribution"
    for arn in (imported, distributed):
        assert server.log(arn).count("end | AVAILABLE") == 1
    assert list((server.data_dir / "disks/drafts").iterdir()) == []
    tally(2, "without a build were killed")


def test_a_cancelled_import_leaves_no_ami(
    disk_server: RunningServer, bucket: Any, bucket_gate: Gate, tmp_path: Path
) -> None:
    """Cancelled while its object is read: CANCELLED at once; when the read ends, the run ends without an AMI."""
    server = disk_server
    raw_disk(tmp_path / "disk.raw")
    bucket.upload_file(str(tmp_path / "disk.raw"), BUCKET, "disk.raw")
    arn = start_import(server.forge, f"s3://{BUCKET}/disk.raw")
    eventually(bucket_gate.waiting.is_set, "the bucket is asked", seconds=60)
    server.forge.client.cancel_image_creation(imageBuildVersionArn=arn)
    assert server.forge.state(arn) == "CANCELLED"
    bucket_gate.open()
    drafts = server.data_dir / "disks/drafts"
    eventually(lambda: not list(drafts.iterdir()), "the run ends", seconds=60)
    again = server.forge.finished(start_import(server.forge, f"s3://{BUCKET}/disk.raw"))
    known = json.loads(server.command("ami", "list", "--json"))
    assert [item["amiId"] for item in known] == [again["outputResources"]["amis"][0]["image"]]
    server.forge.client.delete_image(imageBuildVersionArn=arn)
