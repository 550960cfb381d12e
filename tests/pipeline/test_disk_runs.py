"""Runs that make machine images of small disks without a machine: what is known of them, and RegisterImage."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from imagesmith.inspection.signing import SigningKey, public_key_path
from imagesmith.inspection.statements import Predicate
from testing.machine_images import ADOPT, Base, add, built, registering, root_of, start
from testing.pipeline_support import Forge
from testing.scan_samples import TRACKER
from testing.workflow_support import workflow

pytestmark = pytest.mark.tool

SCAN = """\
name: scan
schemaVersion: 1.0
steps:
  - {name: Scan, action: CollectImageScanFindings, inputs: {instanceId: i-none}}
"""
SCANNING = {"imageScanningEnabled": True}
TESTS = {"imageTestsEnabled": True}


def packages(forge: Forge, arn: str) -> set[str]:
    found = forge.client.list_image_packages(imageBuildVersionArn=arn)["imagePackageList"]
    return {item["packageName"] for item in found}


def shown(forge: Forge, ami: str) -> dict[str, Any]:
    return dict(json.loads(forge.server.command("ami", "show", ami, "--json")))


def test_a_registered_disk_is_known_and_signed_like_a_container(forge: Forge, base: Base, tmp_path: Path) -> None:
    """Packages of all kinds are listed, both documents and the provenance lie beside the disk, and all verifies."""
    image = built(forge, base, registering(forge, root_of(base)))
    assert image["osVersion"] == "Debian 12"
    assert packages(forge, image["arn"]) == {"libssl3", "zlib1g", "Jinja2", "left-pad"}
    (ami,) = image["outputResources"]["amis"]
    facts = shown(forge, ami["image"])
    assert (facts["digest"], facts["snapshotId"]) == (base.digest, base.snapshot)
    folder = forge.server.data_dir / "disks/documents" / base.digest[7:]
    parts = json.loads((folder / "cyclonedx.json").read_bytes())["components"]
    assert {"libssl3", "left-pad"} <= {item["name"] for item in parts}
    spdx = json.loads((folder / "spdx.json").read_bytes())
    assert spdx["spdxVersion"] == "SPDX-2.3" and "Jinja2" in {item["name"] for item in spdx["packages"]}
    copy = tmp_path / "copied.qcow2"
    copy.write_bytes(Path(facts["path"]).read_bytes())
    for reference in (ami["image"], image["arn"], f"{image['name']}/1.0.0/1", base.digest, str(copy)):
        answer = json.loads(forge.server.command("image", "verify", reference, "--json"))
        assert answer["digest"] == base.digest
        assert (answer["parent"], answer["parent_digest"]) == (base.snapshot, base.digest)
    found = json.loads(forge.server.command("image", "verify", ami["image"], "--json"))
    assert found["image"] == image["arn"]
    with copy.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"x")
    assert "no provenance is attached" in forge.server.command("image", "verify", str(copy), status=1)
    assert "no image of this name" in forge.server.command("image", "verify", "nobody/1.0.0", status=1)


def test_an_exported_disk_carries_what_others_need_to_check_it(forge: Forge, base: Base, tmp_path: Path) -> None:
    """Checksum, inventories and provenance lie beside it; coreutils, cosign and a data directory of none agree."""
    image = built(forge, base, registering(forge, root_of(base)))
    (ami,) = image["outputResources"]["amis"]
    target = tmp_path / "web.vmdk"
    forge.server.command("ami", "export", ami["image"], str(target), "--format", "vmdk")
    beside = {place.name for place in tmp_path.glob("web.vmdk.*")}
    signed = ("", ".spdx", ".cdx")
    bundles = (f"{part}.sigstore.json" for part in (*signed, ".vsa"))
    suffixes = (".sha256", ".spdx.json", ".cdx.json", *bundles)
    assert beside == {f"web.vmdk{suffix}" for suffix in suffixes}
    subprocess.run(["sha256sum", "--quiet", "-c", "web.vmdk.sha256"], cwd=tmp_path, check=True)
    spdx = json.loads((tmp_path / "web.vmdk.spdx.json").read_bytes())
    assert spdx["spdxVersion"] == "SPDX-2.3" and "Jinja2" in {item["name"] for item in spdx["packages"]}
    key = public_key_path(forge.server.data_dir)
    kinds = ("slsaprovenance1", "spdxjson", "cyclonedx")
    assert verified_by_cosign(target, key, str(Predicate.SUMMARY), ".vsa") == 0
    assert [verified_by_cosign(target, key, *item) for item in zip(kinds, signed, strict=True)] == [0, 0, 0]
    words = ("image", "verify", str(target), "--key", str(key), "--json")
    assert json.loads(forge.server.command(*words))["image"] == image["arn"]
    with target.open("ab") as file:
        file.write(b"x")
    assert all(verified_by_cosign(target, key, *item) != 0 for item in zip(kinds, signed, strict=True))
    assert "the provenance describes" in forge.server.command(*words, status=1)


def verified_by_cosign(disk: Path, key: Path, kind: str, part: str = "") -> int:
    """The exit status of cosign for a disk and a bundle beside it, offline."""
    root = disk.with_name("root.json")
    root.write_text('{"mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1"}')
    argv = [
        str(Path(sys.executable).parent / "cosign"), "verify-blob-attestation", "--key", str(key),
        "--new-bundle-format", "--insecure-ignore-tlog", "--trusted-root", str(root), "--type", kind,
        "--bundle", f"{disk}{part}.sigstore.json", str(disk),
    ]  # fmt: skip
    environment = {**os.environ, "HOME": str(disk.parent)}
    return subprocess.run(argv, capture_output=True, env=environment, check=False).returncode


def test_a_parent_that_is_distributed_as_it_is_is_read_too(forge: Forge, base: Base) -> None:
    """Its packages are listed; nothing was built, so the image is not signed."""
    SigningKey.open(forge.server.data_dir)  # as the first build that signs something does
    image = built(forge, base, ADOPT, imageTestsConfiguration={"imageTestsEnabled": False})
    assert "libssl3" in packages(forge, image["arn"])
    answer = forge.server.command("image", "verify", image["arn"], status=1)
    assert "no provenance is attached" in answer


def test_a_registered_image_is_what_its_inputs_say(forge: Forge, base: Base) -> None:
    """Description, boot mode and a larger disk; tags of the snapshot stand under those of the service."""
    inputs = root_of(base, VolumeSize=1) | {
        "rootDeviceName": "/dev/xvda", "bootMode": "uefi", "description": "registered", "includeSnapshotTags": True,
        "enaSupport": True,
    }  # fmt: skip
    first = built(forge, base, registering(forge, root_of(base)), imageTestsConfiguration=TESTS)
    inner = Base(first["outputResources"]["amis"][0]["image"], base.digest)
    image = built(forge, inner, registering(forge, inputs))
    (ami,) = image["outputResources"]["amis"]
    facts = shown(forge, ami["image"])
    assert (facts["description"], facts["bootMode"], facts["virtualSize"]) == ("registered", "uefi", 1024**3)
    assert facts["tags"]["Ec2ImageBuilderArn"] == image["arn"] and facts["digest"] != base.digest
    assert "warning: enaSupport has no effect here" in forge.server.log(image["arn"])
    assert "libssl3" in packages(forge, image["arn"])


def test_a_scan_of_a_disk_is_listed_like_that_of_a_container(forge: Forge, base: Base, tmp_path: Path) -> None:
    """A test workflow's scanning step finds what is known of the disk's packages; nothing starts for it."""
    feed(forge, tmp_path)
    image = built(
        forge, base, registering(forge, root_of(base)), {"workflowArn": workflow(forge, "TEST", SCAN)},
        imageScanningConfiguration=SCANNING,
    )  # fmt: skip
    assert image["scanState"] == {"status": "COMPLETED"}, forge.server.log(image["arn"])
    wanted = [{"name": "imageBuildVersionArn", "values": [image["arn"]]}]
    findings = forge.client.list_image_scan_findings(filters=wanted)["findings"]
    assert [(item["packageVulnerabilityDetails"]["vulnerabilityId"], item["severity"]) for item in findings] == [
        ("CVE-2024-0001", "HIGH"), ("CVE-2024-0002", "INFORMATIONAL"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("condition", "end"),
    [
        ({"maximumSeverityLabel": "HIGH"}, "AVAILABLE"),
        ({"maximumSeverityLabel": "MEDIUM"}, "FAILED"),
        (None, "AVAILABLE"),
    ],
)
def test_a_scan_on_demand_judges_the_image(
    forge: Forge, base: Base, tmp_path: Path, condition: dict[str, Any] | None, end: str
) -> None:
    """A finding with a fix that is worse than the condition fails the test phase; findings are not listed."""
    feed(forge, tmp_path)
    scanning = {**SCANNING, "imageScanningTypes": ["ON_DEMAND_AMI_CVE"]}
    scanning |= {"scanResultCondition": condition} if condition else {}
    image = built(forge, base, registering(forge, root_of(base)), end=end, imageScanningConfiguration=scanning)
    assert "COMPLETED: 2 findings" in forge.server.log(image["arn"])
    wanted = [{"name": "imageBuildVersionArn", "values": [image["arn"]]}]
    assert forge.client.list_image_scan_findings(filters=wanted)["findings"] == []
    if end == "FAILED":
        assert "worse than MEDIUM: CVE-2024-0001 (HIGH)" in image["state"]["reason"]
        assert image["state"]["failureContext"]["imageStatus"] == "TESTING"


def test_a_finding_with_a_verdict_fails_no_image(forge: Forge, base: Base, tmp_path: Path) -> None:
    """What fails above passes once it is stated not to be affected; the finding is still counted and named."""
    feed(forge, tmp_path)
    statement = {
        "vulnerability": {"name": "CVE-2024-0001"}, "status": "not_affected", "products": ["*"],
        "justification": "vulnerable_code_not_present",
    }  # fmt: skip
    document = {"@context": "https://openvex.dev/ns/v0.2.0", "author": "ann", "timestamp": "2024-11-29T00:00:00Z"}
    (tmp_path / "vex.json").write_text(json.dumps({**document, "statements": [statement]}))
    scanning = {
        **SCANNING, "imageScanningTypes": ["ON_DEMAND_AMI_CVE"],
        "scanResultCondition": {"maximumSeverityLabel": "MEDIUM"},
    }  # fmt: skip
    forge.server.command("vex", "import", str(tmp_path / "vex.json"))
    (verdict,) = json.loads(forge.server.command("vex", "list", "CVE-2024-0001", "--json"))
    try:
        image = built(forge, base, registering(forge, root_of(base)), imageScanningConfiguration=scanning)
    finally:
        forge.server.command("vex", "rm", verdict["id"])
    log = forge.server.log(image["arn"])
    assert "COMPLETED: 2 findings" in log
    assert "CVE-2024-0001 in libssl3: not_affected: vulnerable_code_not_present (ann)" in log


@pytest.mark.parametrize(
    ("condition", "fixed", "end"),
    [
        ({"maximumSeverityLabel": "HIGH"}, "9", "FAILED"),
        ({"maximumSeverityLabel": "HIGH", "fixAvailable": False}, "", "AVAILABLE"),
    ],
)
def test_what_nobody_ranks_does_not_pass_the_condition_in_silence(
    forge: Forge, base: Base, tmp_path: Path, condition: dict[str, Any], fixed: str, end: str
) -> None:
    """With a fix it may be the worst and fails the image; without one the log says that it was not compared."""
    feed(forge, tmp_path)
    status = {"status": "resolved", "fixed_version": fixed} if fixed else {"status": "open"}
    unranked = {"openssl": {"CVE-2026-0001": {"releases": {"bookworm": {**status, "urgency": "not yet assigned"}}}}}
    nothing = {"none": {"CVE-2026-0002": {"releases": {"bookworm": {"status": "open", "urgency": "low"}}}}}
    other = tmp_path / "other.json"
    scanning = {**SCANNING, "imageScanningTypes": ["ON_DEMAND_AMI_CVE"], "scanResultCondition": condition}
    try:
        other.write_text(json.dumps(unranked))
        forge.server.command("advisories", "import", str(other))
        image = built(forge, base, registering(forge, root_of(base)), end=end, imageScanningConfiguration=scanning)
    finally:
        other.write_text(json.dumps(nothing))
        forge.server.command("advisories", "import", str(other))
    log = forge.server.log(image["arn"])
    assert "3 findings: 1 high, 1 informational, 1 untriaged" in log
    if end == "FAILED":
        assert "or have no severity: CVE-2026-0001 (UNTRIAGED)" in image["state"]["reason"]
    else:
        assert "warning: CVE-2026-0001 has no severity and no fix: not compared with HIGH" in log


def test_a_damaged_parent_fails_the_build_before_a_machine_starts(forge: Forge, tmp_path: Path) -> None:
    """The bytes of the disk are compared with its digest; the reason has both."""
    with (tmp_path / "own.raw").open("wb") as file:
        file.write(os.urandom(510) + b"\x55\xaa" + os.urandom(65024))
    parent = add(forge, tmp_path / "own.raw")
    place = forge.server.data_dir / "disks/sha256" / parent.digest[7:]
    place.chmod(0o600)
    with place.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\xff" if file.read(1) != b"\xff" else b"\x00")
    image = forge.finished(start(forge, parent.ami), "FAILED")
    assert f"the disk {parent.digest} is damaged: its bytes have the digest sha256:" in image["state"]["reason"]
    assert list((forge.server.data_dir / "machines").glob("i-*")) == []
    log = forge.server.log(image["arn"])
    assert "starting machine" not in log


def feed(forge: Forge, folder: Path) -> None:
    (folder / "tracker.json").write_text(json.dumps(TRACKER))
    assert "3 advisories" in forge.server.command("advisories", "import", str(folder / "tracker.json"))
