"""A machine image that is built without a machine: what its disk holds and what is known of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imagesmith.artifacts.disk_root import open_root, unpack
from imagesmith.artifacts.disks import DiskStore
from testing.disks import SIZE
from testing.machine_images import add_disk_file, start
from testing.machine_parents import make_parent
from testing.pipeline_support import REGION, Forge, RunningServer
from testing.vulnerable import debian, feed

pytestmark = pytest.mark.tool

BUILD = """\
name: no-boot
schemaVersion: 1.0
phases:
  - name: build
    steps:
      - name: Change
        action: ExecuteBash
        inputs:
          commands:
            - echo made without a boot >/etc/made
            - chown 1000:1001 /etc/made
            - chmod 4750 /etc/made
            - rm /etc/old
            - echo left >/tmp/left
            - grep ^nameserver /etc/resolv.conf
            - echo 10.0.0.5 db >>/etc/hosts
            - sed 's/db/database/' /etc/hosts >/etc/hosts.new && mv /etc/hosts.new /etc/hosts
            - ls /dev/vda && exit 1 || exit 0
"""
SCAN = """\
name: scan-only
schemaVersion: 1.0
steps:
  - name: Scan
    action: CollectImageScanFindings
    onFailure: Abort
    inputs:
      instanceId: i-0123456789abcdef0
"""
BUILD_ONLY = f"arn:aws:imagebuilder:{REGION}:aws:workflow/build/build-image/x.x.x"


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disk of a small system with something to clean away."""
    return make_parent(tmp_path_factory.mktemp("no-boot"))


def test_components_change_the_disk_and_nothing_boots(forge: Forge, parent: Path, tmp_path: Path) -> None:
    """The new disk has what they wrote, is cleaned, and is known as any other; one wrong bit is found later."""
    server = forge.server
    arn = start(
        forge, add_disk_file(forge, parent), recipe={"components": [{"componentArn": forge.component(data=BUILD)}]},
        tags={"imagesmith:no-boot": "true"}, imageTestsConfiguration={"imageTestsEnabled": False},
    )  # fmt: skip
    (made,) = forge.finished(arn)["outputResources"]["amis"]
    log = server.log(arn)
    assert "no machine starts" in log and "starting machine" not in log
    shown = json.loads(server.command("ami", "show", made["image"], "--json"))
    assert shown["virtualSize"] == 2 * SIZE
    out = tmp_path / "out"
    out.mkdir()
    with open_root(DiskStore(server.data_dir / "disks").get(shown["digest"]).path) as root:
        unpack(root, out)
    changed = (out / "etc/made").stat()
    assert (changed.st_mode & 0o7777, changed.st_uid, changed.st_gid) == (0o4750, 1000, 1001)
    assert (out / "etc/made").read_text() == "made without a boot\n" and not (out / "etc/old").exists()
    assert (out / "etc/hosts").read_text() == "127.0.0.1 localhost\n10.0.0.5 database\n"
    assert (out / "etc/resolv.conf").readlink() == Path("../run/systemd/resolve/stub-resolv.conf")
    gone = ("etc/ssh/ssh_host_ed25519_key", "root/.ssh/authorized_keys", "tmp/left", "run/systemd")
    assert [name for name in gone if (out / name).exists()] == []
    # no systemd, so no first boots of its making
    assert (out / "etc/machine-id").read_bytes() == b"" == (out / "var/log/own.log").read_bytes()
    packages = forge.client.list_image_packages(imageBuildVersionArn=arn)["imagePackageList"]
    assert [(item["packageName"], item["packageVersion"]) for item in packages] == [("web", "1.2-3")]
    documents = DiskStore(server.data_dir / "disks").documents(shown["digest"])
    assert {"cyclonedx.json", "spdx.json", "inventory.json"} < set(documents)
    verified = json.loads(server.command("image", "verify", made["image"], "--json"))
    assert (verified["image"], verified["digest"]) == (arn, shown["digest"])
    damage(Path(shown["path"]))
    said = server.command("image", "verify", made["image"], status=1)
    assert "is damaged" in said and shown["digest"] in said


def damage(disk: Path) -> None:
    """Change one bit at the end of a file."""
    disk.chmod(0o600)
    with disk.open("r+b") as file:
        file.seek(-1, 2)
        last = file.read(1)
        file.seek(-1, 2)
        file.write(bytes([last[0] ^ 1]))


def test_a_restart_needs_a_machine(forge: Forge, parent: Path) -> None:
    """The component fails with the reason, and nothing of the container is left."""
    reboot = BUILD.replace("ExecuteBash", "Reboot").partition("        inputs:")[0]
    component = {"componentArn": forge.component(data=reboot)}
    arn = start(
        forge, add_disk_file(forge, parent), recipe={"components": [component]},
        tags={"imagesmith:no-boot": "true"},
    )  # fmt: skip
    assert (
        "a container cannot restart; run this component on a machine"
        in forge.finished(arn, "FAILED")["state"]["reason"]
    )
    assert forge.server.containers() == []


def test_a_disk_is_scanned_as_it_lies_there(
    forge: Forge, server: RunningServer, parent: Path, tmp_path: Path
) -> None:
    """The findings of its packages are listed for the image, without a machine in the test phase either."""
    feed(server, tmp_path)
    workflow = forge.client.create_workflow(
        name=forge.name("scan"), semanticVersion="1.0.0", type="TEST", data=SCAN
    )["workflowBuildVersionArn"]  # fmt: skip
    arn = start(
        forge, add_disk_file(forge, parent), recipe={"components": [{"componentArn": debian(forge)}]},
        tags={"imagesmith:no-boot": "true"}, imageScanningConfiguration={"imageScanningEnabled": True},
        executionRole="builder", workflows=[{"workflowArn": BUILD_ONLY}, {"workflowArn": workflow}],
    )  # fmt: skip
    image = forge.finished(arn)
    assert image["scanState"] == {"status": "COMPLETED"} and image["osVersion"] == "Debian 12"
    wanted = [{"name": "imageBuildVersionArn", "values": [arn]}]
    findings = forge.client.list_image_scan_findings(filters=wanted)["findings"]
    found = [item["packageVulnerabilityDetails"]["vulnerabilityId"] for item in findings]
    assert found == ["CVE-2024-0001", "CVE-2024-0002"]


def test_a_scan_of_half_a_system_fails_and_says_what_it_lacks(
    forge: Forge, server: RunningServer, tmp_path: Path
) -> None:
    """The packages of a /var of its own are not read: no clean report, and no build without a boot either."""
    feed(server, tmp_path)
    disk = add_disk_file(forge, make_parent(tmp_path, fstab="LABEL=root / ext4\nLABEL=data /var ext4\n"))
    workflow = forge.client.create_workflow(
        name=forge.name("scan"), semanticVersion="1.0.0", type="TEST", data=SCAN
    )["workflowBuildVersionArn"]  # fmt: skip
    arn = start(
        forge, disk, recipe={"components": [{"componentArn": debian(forge)}]}, executionRole="builder",
        imageScanningConfiguration={"imageScanningEnabled": True}, workflows=[{"workflowArn": workflow}],
    )  # fmt: skip
    image = forge.finished(arn, "FAILED")
    assert image["scanState"]["status"] == "FAILED"
    assert "/etc/fstab has /var (LABEL=data) on another partition" in image["scanState"]["reason"]
    assert "cannot be read from outside: its /etc/fstab has /var" in server.log(arn)
    arn = start(
        forge, disk, recipe={"components": [{"componentArn": debian(forge)}]}, tags={"imagesmith:no-boot": "true"}
    )
    assert (
        "only the root would be changed: build it with a boot" in forge.finished(arn, "FAILED")["state"]["reason"]
    )
