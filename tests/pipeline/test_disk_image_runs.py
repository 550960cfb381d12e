"""Runs without a build: disks of a bucket become AMIs, and AMIs are distributed (spec/api.md 5.3)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from testing.disks import raw_disk
from testing.installer_iso import installer_iso
from testing.leaks import assert_clean
from testing.machine_images import Base, built, registering, root_of
from testing.object_store import object_store, store_settings
from testing.pipeline_support import REGION, Forge, RunningServer
from testing.workflow_support import ROLE

pytestmark = pytest.mark.tool

BUCKET = "disks"


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    """A client of an S3 server with one bucket."""
    with object_store(BUCKET) as client:
        yield client


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_parent: str, bucket: Any) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("imports")
    settings = store_settings(bucket.meta.endpoint_url, folder)
    with RunningServer(folder / "data", parent=tiny_parent, settings=settings) as running:
        yield running.start()
        running.stop()
        assert_clean(running)


def put(bucket: Any, path: Path, key: str) -> str:
    bucket.upload_file(str(path), BUCKET, key)
    return f"s3://{BUCKET}/{key}"


def start_import(forge: Forge, address: str, **members: Any) -> str:
    request = {
        "name": forge.name("disk"), "semanticVersion": "1.0.0", "platform": "Linux", "vmImportTaskId": address,
        **members,
    }  # fmt: skip
    return str(forge.client.import_vm_image(**request)["imageArn"])


def distribution(forge: Forge, *entries: dict[str, Any]) -> str:
    made = forge.client.create_distribution_configuration(name=forge.name("dist"), distributions=list(entries))
    return str(made["distributionConfigurationArn"])


def distribute(forge: Forge, source: str, *entries: dict[str, Any], end: str = "AVAILABLE", **members: Any) -> Any:
    made = forge.client.distribute_image(
        sourceImage=source,
        distributionConfigurationArn=distribution(forge, *entries),
        executionRole=ROLE,
        **members,
    )
    return forge.finished(made["imageBuildVersionArn"], end)


def ami(region: str = REGION, **members: Any) -> dict[str, Any]:
    return {"region": region, "amiDistributionConfiguration": members}


def details(forge: Forge, ami_id: str) -> dict[str, Any]:
    return dict(json.loads(forge.server.command("ami", "show", ami_id, "--json")))


def states(forge: Forge, arn: str) -> list[str]:
    """Parts of the run that its log names, in order."""
    return list(dict.fromkeys(line.split(" | ")[0].split()[-1] for line in forge.server.log(arn).splitlines()))


def test_a_disk_of_a_bucket_becomes_an_ami_that_recipes_build_on(
    forge: Forge, bucket: Any, disk_file: Path
) -> None:
    """Its bytes, packages and description are those of the object; a build starts from it."""
    address = put(bucket, disk_file, "debian 12/disk.qcow2")
    arn = start_import(forge, address, osVersion="Debian 12", description="from outside")
    image = forge.finished(arn)
    assert (image["buildType"], image["imageSource"], image["state"]) == (
        "IMPORT", "IMPORTED", {"status": "AVAILABLE"},
    )  # fmt: skip
    [made] = image["outputResources"]["amis"]
    assert (made["region"], made["description"]) == (REGION, "from outside")
    found = details(forge, made["image"])
    assert Path(found["path"]).read_bytes() == disk_file.read_bytes()
    assert f"{made['image']}  {REGION}  {made['accountId']}" in forge.server.command("image", "show", arn)
    assert "import | s3://" in forge.server.log(arn)
    packages = forge.client.list_image_packages(imageBuildVersionArn=arn)["imagePackageList"]
    assert {"libssl3", "zlib1g"} <= {item["packageName"] for item in packages}
    snapshot = Base(made["image"], found["digest"])
    child = built(forge, Base(arn, snapshot.digest), registering(forge, root_of(snapshot)))
    assert child["imageRecipe"]["parentImage"] == arn


@pytest.mark.parametrize("writes", [True, False], ids=["installs", "only-ends"])
def test_an_iso_of_a_bucket_is_installed_and_its_disk_becomes_an_ami(
    forge: Forge, bucket: Any, tmp_path: Path, writes: bool
) -> None:
    """A machine starts from it; a medium that installs nothing makes the image FAILED."""
    address = put(bucket, installer_iso(tmp_path / "iso", writes=writes), f"windows-{writes}.iso")
    made = forge.client.import_disk_image(
        name=forge.name("windows"), semanticVersion="1.0.0", platform="Windows", uri=address,
        osVersion="Microsoft Windows 11", infrastructureConfigurationArn=forge.infrastructure(),
    )  # fmt: skip
    arn = made["imageBuildVersionArn"]
    image = forge.finished(arn, "AVAILABLE" if writes else "FAILED")
    assert "install | starting machine" in forge.server.log(arn)
    if not writes:
        assert f"{address} was not installed: the machine switched itself off" in image["state"]["reason"]
        assert image["outputResources"]["amis"] == []
        return
    [ami] = image["outputResources"]["amis"]
    found = details(forge, ami["image"])
    assert (found["platform"], found["bootMode"], found["secureBoot"]) == ("Windows", "uefi", True)


def test_a_raw_disk_is_taken_too(forge: Forge, bucket: Any, tmp_path: Path) -> None:
    """It is stored as qcow2 and exported with the same bytes; a disk of Windows keeps its platform."""
    content = raw_disk(tmp_path / "disk.raw")
    address = put(bucket, tmp_path / "disk.raw", "disk.raw")
    image = forge.finished(start_import(forge, address, platform="Windows"))
    [made] = image["outputResources"]["amis"]
    assert details(forge, made["image"])["platform"] == "Windows"
    forge.server.command("ami", "export", made["image"], str(tmp_path / "again.raw"), "--format", "raw")
    assert (tmp_path / "again.raw").read_bytes() == content


def with_backing_file(folder: Path) -> Path:
    raw_disk(folder / "below.raw")
    made = folder / "overlay.qcow2"
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(folder / "below.raw"), str(made)]
    subprocess.run(command, check=True)
    return made


def with_data_file(folder: Path) -> Path:
    made = folder / "data.qcow2"
    options = f"data_file={folder / 'outside.raw'},data_file_raw=on"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", options, str(made), "8M"], check=True)
    return made


def vmdk(folder: Path) -> Path:
    made = folder / "disk.vmdk"
    subprocess.run(["qemu-img", "create", "-q", "-f", "vmdk", str(made), "8M"], check=True)
    return made


def text(folder: Path) -> Path:
    (folder / "notes.txt").write_text("no disk\n" * 100)
    return folder / "notes.txt"


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (with_backing_file, "depends on another file"),
        (with_data_file, "depends on another file"),
        (vmdk, "is a vmdk disk; convert it first"),
        (text, "is not a disk"),
    ],
)
def test_an_object_that_is_no_complete_disk_fails_the_import(
    forge: Forge, bucket: Any, tmp_path: Path, make: Callable[[Path], Path], told: str
) -> None:
    """FAILED with a reason that names the object and what to do; no AMI is made, no file stays."""
    address = put(bucket, make(tmp_path), f"bad/{make.__name__}")
    image = forge.finished(start_import(forge, address), "FAILED")
    reason = image["state"]["reason"]
    assert f"the disk cannot be imported: {address} {told}" in reason
    assert str(forge.server.data_dir) not in reason
    assert image["state"]["failureContext"] == {"imageStatus": "PENDING"}
    assert image["outputResources"]["amis"] == []
    assert list((forge.server.data_dir / "disks/drafts").iterdir()) == []


@pytest.mark.parametrize(("key", "told"), [("missing", "NoSuchKey"), ("../other/x", "NoSuchKey")])
def test_an_object_that_cannot_be_read_fails_the_import(forge: Forge, key: str, told: str) -> None:
    """The reason is the store's; the image cannot be retried, because nothing was made."""
    arn = start_import(forge, f"s3://{BUCKET}/{key}")
    image = forge.finished(arn, "FAILED")
    assert "the object cannot be read" in image["state"]["reason"] and told in image["state"]["reason"]
    with pytest.raises(forge.client.exceptions.InvalidRequestException, match="Build it again"):
        forge.client.retry_image(imageBuildVersionArn=arn)


def test_an_ami_reaches_regions_and_accounts_without_a_build(forge: Forge, base: Base) -> None:
    """One entry per Region and account of the same disk, with names and tags of the configuration."""
    image = distribute(
        forge,
        base.ami,
        ami(name="copy-{{ imagebuilder:buildVersion }}-{{ imagebuilder:buildDate }}", amiTags={"a": "b"}),
        ami("eu-north-1", targetAccountIds=["444455556666"], launchPermission={"userIds": ["777788889999"]}),
    )
    made = image["outputResources"]["amis"]
    places = {(item["region"], item["accountId"]) for item in made}
    assert {("eu-north-1", "444455556666"), (REGION, made[0]["accountId"])} <= places and len(made) == 3
    assert {details(forge, item["image"])["digest"] for item in made} == {base.digest}
    own = next(item for item in made if item["region"] == REGION)
    assert own["name"].startswith("copy-1-") and details(forge, own["image"])["tags"]["a"] == "b"
    assert "imageRecipe" not in image and "infrastructureConfiguration" not in image
    executions = forge.client.list_workflow_executions(imageBuildVersionArn=image["arn"])["workflowExecutions"]
    assert executions == []
    assert states(forge, image["arn"])[-1] == "end" and "CREATING" not in forge.server.log(image["arn"])


def test_an_imported_image_is_distributed_by_arn_and_by_parameter(
    forge: Forge, bucket: Any, disk_file: Path
) -> None:
    """The builds continue those of its name and version; a parameter gets the new AMI for the next time."""
    first = start_import(forge, put(bucket, disk_file, "again.qcow2"))
    forge.finished(first)
    name = f"/{forge.name('golden')}"
    image = distribute(forge, first[:-2], {**ami(), "ssmParameterConfigurations": [{"parameterName": name}]})
    assert image["arn"] == first[:-1] + "2"
    [made] = image["outputResources"]["amis"]
    again = distribute(forge, f"ssm:{name}", ami("eu-north-1"))
    assert {item["region"] for item in again["outputResources"]["amis"]} == {REGION, "eu-north-1"}
    assert again["name"] == made["name"] and again["version"] == "1.0.0/1"


def test_a_failed_distribution_is_retried_with_the_same_ami(forge: Forge, base: Base, bucket: Any) -> None:
    """RetryImage repeats the distribution; the copy that had failed is made, under the same image."""
    name = forge.name("exports")
    export = {"roleName": "vmie", "diskImageFormat": "RAW", "s3Bucket": name, "s3Prefix": "x/"}
    failed = distribute(forge, base.ami, {**ami(), "s3ExportConfiguration": export}, end="FAILED")
    assert failed["state"]["failureContext"]["imageStatus"] in ("DISTRIBUTING", "INTEGRATING")
    [before] = failed["outputResources"]["amis"]
    bucket.create_bucket(Bucket=name)
    forge.client.retry_image(imageBuildVersionArn=failed["arn"])
    image = forge.finished(failed["arn"])
    assert image["outputResources"]["amis"] == [before]
    listed = bucket.list_objects_v2(Bucket=name)["Contents"]
    # lists of packages stand beside it as well, signed, once a build of another test has inspected this disk
    of_packages = tuple(f".{form}{signed}.json" for form in ("cdx", "spdx") for signed in ("", ".sigstore"))
    keys = [item["Key"] for item in listed if not item["Key"].endswith(of_packages)]
    assert keys == [f"x/export-{before['image']}.raw", f"x/export-{before['image']}.raw.sha256"]


def test_a_source_that_is_removed_before_the_run_fails_it(forge: Forge, base: Base) -> None:
    """The disk is gone between request and run: FAILED in DISTRIBUTING with the AMI in the reason."""
    image_disk = forge.server.data_dir / "disks/sha256" / base.digest[7:]
    content = image_disk.read_bytes()
    image_disk.unlink()
    try:
        image = distribute(forge, base.ami, ami(), end="FAILED")
    finally:
        image_disk.write_bytes(content)
        image_disk.chmod(0o400)
    assert image["state"]["failureContext"]["imageStatus"] == "DISTRIBUTING"
    assert base.ami in image["state"]["reason"]
