"""What a distribution carries out of the catalog: disks in buckets, in every format, and on hosts."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imagesmith.builds.machine_build import MachineBuild, amis_to_api
from imagesmith.builds.records import ImageRecords
from imagesmith.builds.work import Work
from imagesmith.builds.worker_context import WorkerContext
from imagesmith.distribution.ami_post_distribution import distribute_amis
from imagesmith.distribution.destinations import catalog_region
from imagesmith.distribution.failures import DistributionFailed
from imagesmith.processes import Cancellation
from imagesmith.recipes.plan import PlannedMachine, PlannedRole
from imagesmith.settings import Role, Settings
from imagesmith.store.amis import ami_id_for
from imagesmith.store.database import Database
from imagesmith.store.parameters import get_parameter
from testing.clocks import MovingClock
from testing.disks import raw_disk
from testing.object_store import s3_client, s3_endpoint
from testing.plans import ARN, PLAN, REGION
from testing.ssh_host import Host

pytestmark = pytest.mark.tool


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_endpoint() as url:
        yield url


@pytest.fixture
def bucket(endpoint: str) -> Any:
    return s3_client(endpoint, "disks")


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
    worker_context = WorkerContext.open(settings, ImageRecords(sqlite_database, clock), clock)
    content = raw_disk(tmp_path / "made.raw")
    disk = worker_context.disks.take(tmp_path / "made.raw")
    with worker_context.log(ARN) as log:
        work = Work(worker_context, PLAN, log, Cancellation(), kind=MachineBuild())
        catalog_region.register_output(work.distribution, disk.digest, entry="cloud-init")
        yield work, content
    worker_context.close()


def distribute(work: Work, *entries: dict[str, Any], **planned: Any) -> str:
    """Run a distribution; gives the id of the AMI of the first Region."""
    machine = PlannedMachine(distributions=entries, **planned)
    work = replace(work, plan=replace(work.plan, machine=machine))
    distribute_amis(work.distribution)
    (first, *_) = entries
    return ami_id_for(PLAN.account, str(first["region"]), "", source=ARN)


def exporting(form: str = "RAW", **members: str) -> dict[str, Any]:
    export = {"roleName": "vmie", "diskImageFormat": form, "s3Bucket": "disks", "s3Prefix": "golden/", **members}
    return {"region": REGION, "s3ExportConfiguration": export}


def names(bucket: Any, prefix: str) -> list[str]:
    return [item["Key"] for item in bucket.list_objects_v2(Bucket="disks", Prefix=prefix).get("Contents", ())]


def with_roles(work: Work, **roles: Role) -> Work:
    return replace(
        work,
        worker_context=replace(work.worker_context, settings=replace(work.worker_context.settings, roles=roles)),
    )


@pytest.mark.parametrize(("form", "tool"), [("RAW", "raw"), ("VMDK", "vmdk"), ("VHD", "vpc")])
def test_a_disk_is_exported_to_a_bucket(
    built: tuple[Work, bytes], bucket: Any, tmp_path: Path, form: str, tool: str
) -> None:
    """The object is the disk in the format that was asked for, named for the AMI under the prefix; its checksum
    lies beside it."""
    work, content = built
    ami = distribute(work, exporting(form, s3Prefix=f"golden/{form}/"))
    key = f"golden/{form}/export-{ami}.{form.lower()}"
    assert names(bucket, f"golden/{form}/") == [key, f"{key}.sha256"]
    bucket.download_file("disks", key, str(tmp_path / "back"))
    checksum = bucket.get_object(Bucket="disks", Key=f"{key}.sha256")["Body"].read().decode()
    digest = hashlib.sha256((tmp_path / "back").read_bytes()).hexdigest()
    assert checksum == f"{digest}  export-{ami}.{form.lower()}\n"
    subprocess.run(
        ["qemu-img", "convert", "-f", tool, "-O", "raw", str(tmp_path / "back"), str(tmp_path / "back.raw")],
        check=True,
    )  # fmt: skip
    assert (tmp_path / "back.raw").read_bytes()[: len(content)] == content
    assert list((work.worker_context.disks.folder / "drafts").iterdir()) == []


def test_parts_of_a_killed_export_are_taken_away(built: tuple[Work, bytes], bucket: Any) -> None:
    """Those of the same object only; the object is whole afterwards."""
    work, _ = built
    ami = ami_id_for(PLAN.account, REGION, "", source=ARN)
    key = f"parts/export-{ami}.raw"
    for name in (key, f"{key}.other"):
        bucket.create_multipart_upload(Bucket="disks", Key=name)
    distribute(work, exporting(s3Prefix="parts/"))
    left = [item["Key"] for item in bucket.list_multipart_uploads(Bucket="disks")["Uploads"]]
    assert left == [f"{key}.other"] and names(bucket, "parts/") == [key, f"{key}.sha256"]


def test_an_export_that_fails_says_where_it_stopped(built: tuple[Work, bytes]) -> None:
    """The failure is that of its Region in the stage INTEGRATING; the AMI and its parameter stay."""
    work, _ = built
    wanted = exporting(s3Bucket="absent") | {"ssmParameterConfigurations": [{"parameterName": "/web"}]}
    with pytest.raises(
        DistributionFailed, match=r"cannot be exported to s3://absent/golden/export-ami-.*NoSuchBucket"
    ) as told:
        distribute(work, wanted)
    (item,) = told.value.outputs["configuredImages"]
    assert (item["status"], item["step"]) == ("Failed", "ExportAmiRunning")
    (failure,) = told.value.context["distributionFailure"]["regionFailures"]
    assert told.value.context["imageStatus"] == "INTEGRATING" and failure["region"] == REGION
    assert failure["imageConfigurationStep"] == "EXPORT_AMI"
    with work.worker_context.records.database.read() as tx:
        assert get_parameter(tx, PLAN.account, REGION, "/web") is not None


@pytest.mark.parametrize(
    ("roles", "run", "words"),
    [
        ({"other": Role()}, None, "the export role vmie does not exist; configure it as .roles.vmie."),
        ({"vmie": Role(buckets=("a*",))}, None, "the role vmie has no access to the bucket disks"),
        (
            {"vmie": Role(buckets=("*",))},
            PlannedRole("builder"),
            "the role builder has no access to the bucket disks",
        ),
    ],
)
def test_an_export_needs_a_role_that_reaches_the_bucket(
    built: tuple[Work, bytes], bucket: Any, roles: dict[str, Role], run: PlannedRole | None, words: str
) -> None:
    """The role of the export and that of the run must both have the bucket; nothing is written otherwise."""
    work, _ = built
    work = replace(work, plan=replace(work.plan, role=run))
    with pytest.raises(DistributionFailed, match=words):
        distribute(with_roles(work, **roles), exporting(s3Prefix="refused/"))
    assert names(bucket, "refused/") == []


def test_an_export_under_its_role_is_made(built: tuple[Work, bytes], bucket: Any) -> None:
    """A role by its ARN, whose buckets have a wildcard."""
    work, _ = built
    export = exporting(s3Prefix="role/", roleName=f"arn:aws:iam::{PLAN.account}:role/vmie")
    distribute(with_roles(work, vmie=Role(buckets=("dis*",))), export)
    assert [name.rpartition(".")[2] for name in names(bucket, "role/")] == ["raw", "sha256"]


def test_a_disk_of_a_region_with_a_host_is_copied_there(built: tuple[Work, bytes], host: Host) -> None:
    """Its name on the host is that of the AMI; Regions without a host are not concerned."""
    work, _ = built
    distribute(work, {"region": REGION})
    assert host.names() == []
    ami = distribute(
        work, {"region": "us-east-1", "amiDistributionConfiguration": {"name": "web {{ imagebuilder:buildDate }}"}}
    )
    assert host.names() == [f"web-2026-11-23T18-04-10.001Z-{ami}.qcow2"]
    disk = work.worker_context.disks.get(catalog_region.own_ami(work.distribution).digest)
    assert (host.folder / host.names()[0]).read_bytes() == disk.path.read_bytes()


def test_a_host_that_cannot_be_reached_fails_its_region(built: tuple[Work, bytes], host: Host) -> None:
    """The reason names the host and the place; the Region has no AMI, the others keep theirs."""
    work, _ = built
    settings = replace(work.worker_context.settings, machine_hosts={"us-east-1": replace(host.described, port=1)})
    work = replace(work, worker_context=replace(work.worker_context, settings=settings))
    with pytest.raises(DistributionFailed, match=r"cannot be copied to root@127.0.0.1:1:") as told:
        distribute(work, {"region": "us-east-1"}, {"region": "eu-north-1"})
    (failure,) = told.value.context["distributionFailure"]["regionFailures"]
    assert failure["region"] == "us-east-1"
    assert [item["region"] for item in amis_to_api(work.worker_context, ARN)] == ["eu-north-1", REGION]


def test_a_host_that_the_role_does_not_reach_gets_nothing(built: tuple[Work, bytes], host: Host) -> None:
    """The role names Regions or addresses of hosts."""
    work, _ = built
    refused = replace(work, plan=replace(work.plan, role=PlannedRole("builder", hosts=("eu-north-1",))))
    with pytest.raises(DistributionFailed, match=r"the execution role builder has no access to the host 127.0.0.1"):
        distribute(refused, {"region": "us-east-1"})
    assert host.names() == []
    distribute(
        replace(work, plan=replace(work.plan, role=PlannedRole("builder", hosts=("us-east-1",)))),
        {"region": "us-east-1"},
    )
    assert len(host.names()) == 1
