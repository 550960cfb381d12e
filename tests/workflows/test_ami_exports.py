"""What a distribution carries out of the catalog: disks in buckets, in every format, and on hosts."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from artifacts.test_disks import raw_disk
from distribution.test_machine_host import Host, host
from imagesmith.processes import Cancellation
from imagesmith.recipes.plan import PlannedMachine
from imagesmith.settings import Settings
from imagesmith.store.database import Database
from imagesmith.workflows import amis
from imagesmith.workflows.failures import StepFailed
from imagesmith.workflows.records import Records
from imagesmith.workflows.work import Work
from imagesmith.workflows.workshop import Workshop
from support import MovingClock
from workflows.test_amis import ARN, PLAN, REGION

__all__ = ["host"]

pytestmark = pytest.mark.tool


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    address, port = server.get_host_and_port()
    yield f"http://{address}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str) -> Any:
    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    client.create_bucket(Bucket="disks")
    return client


@pytest.fixture
def built(
    sqlite_database: Database, clock: MovingClock, tmp_path: Path, endpoint: str, host: Host
) -> Iterator[tuple[Work, bytes]]:
    """A run that has made a disk of a few megabytes, and the disk's bytes as a guest sees them."""
    secret = tmp_path / "secret"
    secret.write_text("b")
    settings = Settings(
        tmp_path / "data", s3_endpoint_url=endpoint, s3_access_key_id="a", s3_secret_key_file=str(secret),
        machine_hosts={"us-east-1": host.described},
    )  # fmt: skip
    shop = Workshop.open(settings, Records(sqlite_database, clock), clock)
    content = raw_disk(tmp_path / "made.raw")
    disk = shop.disks.take(tmp_path / "made.raw")
    with shop.log(ARN) as log:
        work = Work(shop, PLAN, log, Cancellation())
        amis.register_output(work, disk.digest, entry="cloud-init")
        yield work, content
    shop.close()


def distribute(work: Work, *entries: dict[str, Any]) -> str:
    """Run a distribution; gives the id of the AMI of the first Region."""
    planned = replace(work, plan=replace(work.plan, machine=PlannedMachine(distributions=entries)))
    told = amis.copy_to_regions(planned, None)
    amis.configure(planned, told, None)
    return str(told[0]["amiId"])


@pytest.mark.parametrize(("form", "tool"), [("RAW", "raw"), ("VMDK", "vmdk"), ("VHD", "vpc")])
def test_a_disk_is_exported_to_a_bucket(
    built: tuple[Work, bytes], bucket: Any, tmp_path: Path, form: str, tool: str
) -> None:
    """The object is the disk in the format that was asked for, named for the AMI under the prefix."""
    work, content = built
    export = {"roleName": "vmie", "diskImageFormat": form, "s3Bucket": "disks", "s3Prefix": f"golden/{form}/"}
    ami = distribute(work, {"region": REGION, "s3ExportConfiguration": export})
    (item,) = bucket.list_objects_v2(Bucket="disks", Prefix=f"golden/{form}/")["Contents"]
    assert item["Key"] == f"golden/{form}/{ami}.{form.lower()}"
    bucket.download_file("disks", item["Key"], str(tmp_path / "back"))
    subprocess.run(
        ["qemu-img", "convert", "-f", tool, "-O", "raw", str(tmp_path / "back"), str(tmp_path / "back.raw")],
        check=True,
    )  # fmt: skip
    assert (tmp_path / "back.raw").read_bytes()[: len(content)] == content
    assert not list(work.shop.disks.folder.glob("export-*"))


def test_a_disk_of_a_region_with_a_host_is_copied_there(built: tuple[Work, bytes], host: Host) -> None:
    """Its name on the host is that of the AMI; Regions without a host are not concerned."""
    work, _ = built
    distribute(work, {"region": REGION})
    assert host.names() == []
    ami = distribute(
        work, {"region": "us-east-1", "amiDistributionConfiguration": {"name": "web {{ imagebuilder:buildDate }}"}}
    )
    assert host.names() == [f"web-2026-11-23T18-04-10.001Z-{ami}.qcow2"]
    disk = work.shop.disks.get(amis.own_ami(work).digest)
    assert (host.folder / host.names()[0]).read_bytes() == disk.path.read_bytes()


def test_a_host_that_cannot_be_reached_fails_the_distribution(built: tuple[Work, bytes], host: Host) -> None:
    """The reason names the host and the place."""
    work, _ = built
    gone = replace(host.described, port=1)
    settings = replace(work.shop.settings, machine_hosts={REGION: gone})
    with pytest.raises(StepFailed, match=r"cannot be copied to root@127.0.0.1:1:"):
        distribute(replace(work, shop=replace(work.shop, settings=settings)), {"region": REGION})
