"""Whole builds: what is collected, scanned, signed and pushed, through API and commands of a real server."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from imagesmith.artifacts.layout import OciLayout
from imagesmith.artifacts.referrers import attached
from imagesmith.distribution.cosign import attestation_tag, signature_tag
from imagesmith.distribution.referrers import fetch_referrers, push_referrers
from imagesmith.inspection.provenance import KIND
from imagesmith.inspection.sbom import CYCLONEDX_TYPE, SPDX_TYPE
from imagesmith.inspection.signing import SigningKey, public_key_path
from imagesmith.inspection.sigstore import BUNDLE_TYPE
from imagesmith.inspection.statements import Predicate
from imagesmith.settings import Registry
from testing.pipeline_support import Forge, RunningServer, image_digest, uris
from testing.registry_support import RunningRegistry, write_layout
from testing.vulnerable import debian, feed

pytestmark = pytest.mark.tool


def test_inventory_documents_and_provenance_go_with_the_image(
    forge: Forge, server: RunningServer, open_registry: RunningRegistry
) -> None:
    """The packages are listed, and the pushed image has both documents and its provenance as referrers."""
    image = forge.build(forge.recipe(debian(forge)))
    assert image["osVersion"] == "Debian 12"
    listed = forge.client.list_image_packages(imageBuildVersionArn=image["arn"])["imagePackageList"]
    assert {item["packageName"] for item in listed} == {"libssl3", "zlib1g", "Jinja2"}
    (uri,) = uris(image)
    digest = image_digest(f"docker://{uri}")
    kept = attached(OciLayout(server.data_dir / "oci"), digest)
    signed = [predicate.kind for predicate in (Predicate.CYCLONEDX, Predicate.SPDX)]
    assert [item.document.kind for item in kept] == [
        CYCLONEDX_TYPE, signed[0], SPDX_TYPE, signed[1], KIND, Predicate.SUMMARY.kind,
    ]  # fmt: skip
    verified = json.loads(server.command("image", "verify", image["arn"], "--json"))
    dependencies = verified["statement"]["predicate"]["buildDefinition"]["resolvedDependencies"]
    urls = {item["uri"].partition("@")[0] for item in dependencies if item["name"].startswith("package ")}
    assert urls == {"pkg:deb/debian/libssl3", "pkg:deb/debian/zlib1g", "pkg:pypi/jinja2"}
    registry = Registry(open_registry.host, insecure=True)
    repository = uri.partition("/")[2].rpartition(":")[0]
    for item in kept:
        (pushed,) = fetch_referrers(registry, repository, digest, item.document.kind)
        assert pushed == item
    for reference in (image["arn"], image["name"], f"{image['name']}/1.0.0/1", digest, uri):
        answer = server.command("image", "verify", reference)
        assert digest in answer and image["arn"] in answer and "built by" in answer


def test_verifying_notices_every_change(forge: Forge, server: RunningServer, tmp_path: Path) -> None:
    """A changed layer, a stripped or foreign provenance and another key each end in status 1 and one sentence."""
    image = forge.build(forge.recipe(forge.component(build="echo x > /x")))
    digest = image_digest(f"docker://{uris(image)[0]}")
    found = json.loads(server.command("image", "verify", image["arn"], "--json"))
    assert (found["digest"], found["image"]) == (digest, image["arn"])
    stranger = SigningKey.open(tmp_path)
    assert stranger.public.id
    words = ("image", "verify", uris(image)[0], "--key", str(public_key_path(tmp_path)))
    assert "no signature matches" in server.command(*words, status=1)
    layout = OciLayout(server.data_dir / "oci")
    blob = layout.path / "blobs/sha256" / str(layout.manifest(digest)["layers"][-1]["digest"])[7:]
    kept = blob.read_bytes()
    blob.write_bytes(kept + b"x")
    try:
        assert "was changed" in server.command("image", "verify", image["arn"], status=1)
    finally:
        blob.write_bytes(kept)
    assert "no image of this name" in server.command("image", "verify", "nobody/1.0.0", status=1)


def test_an_image_under_another_name_is_not_verified(
    forge: Forge, server: RunningServer, open_registry: RunningRegistry
) -> None:
    """A copy has the name of its origin until it is attested; its provenance alone can be asked for."""
    (uri,) = uris(forge.build(forge.recipe(forge.component(build="echo x > /name"))))
    origin, copy = uri.rpartition(":")[0], f"{open_registry.host}/copied/web:1"
    options = ["--quiet", "--src-tls-verify=false", "--dest-tls-verify=false"]
    subprocess.run(["skopeo", "copy", *options, f"docker://{uri}", f"docker://{copy}"], check=True)
    assert "no provenance is attached" in server.command("image", "verify", copy, status=1)
    registry = Registry(open_registry.host, insecure=True)
    with_attachments(registry, origin.partition("/")[2], "copied/web", image_digest(f"docker://{uri}"))
    assert f"it is signed as {origin}, not as {open_registry.host}/copied/web" in server.command(
        "image", "verify", copy, status=1
    )
    assert "verified" in server.command("image", "verify", copy, "--any-name")
    said = server.command("image", "attest", copy)
    assert f"signed as {open_registry.host}/copied/web" in said and BUNDLE_TYPE in said
    assert "verified" in server.command("image", "verify", copy)
    stranger = f"{open_registry.host}/copied/other:1"
    layout = server.data_dir.parent / "stranger"
    write_layout(layout, "web:1")
    subprocess.run(["skopeo", "copy", *options, f"oci:{layout}:web:1", f"docker://{stranger}"], check=True)
    assert "only what was built here is signed" in server.command("image", "attest", stranger, status=1)


def with_attachments(registry: Registry, origin: str, target: str, digest: str) -> None:
    """Copy what is attached to an image, as tools that know it do."""
    push_referrers(registry, target, digest, fetch_referrers(registry, origin, digest, KIND))
    for tag in (signature_tag(digest), attestation_tag(digest)):
        subprocess.run(
            ["skopeo", "copy", "--quiet", "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false",
             f"docker://{registry.url}/{origin}:{tag}", f"docker://{registry.url}/{target}:{tag}"],
            check=True,
        )  # fmt: skip


def test_a_scan_finds_what_is_known(
    forge: Forge, server: RunningServer, tmp_path: Path, open_registry: RunningRegistry
) -> None:
    """The image under scan is pushed where it was asked for, and its findings are listed by image."""
    feed(server, tmp_path)
    image = forge.build(
        forge.recipe(debian(forge)),
        imageScanningConfiguration={
            "imageScanningEnabled": True,
            "ecrConfiguration": {"repositoryName": "scans/mine", "containerTags": ["candidate"]},
        },
    )
    assert image["scanState"] == {"status": "COMPLETED"}, server.log(image["arn"])
    assert image_digest(f"docker://{open_registry.host}/scans/mine:candidate") == image_digest(
        f"docker://{uris(image)[0]}"
    )
    wanted = [{"name": "imageBuildVersionArn", "values": [image["arn"]]}]
    findings = forge.client.list_image_scan_findings(filters=wanted)["findings"]
    assert [
        (item["packageVulnerabilityDetails"]["vulnerabilityId"], item["severity"], item["fixAvailable"])
        for item in findings
    ] == [("CVE-2024-0001", "HIGH", "YES"), ("CVE-2024-0002", "INFORMATIONAL", "NO")]
    assert "1 pypi packages were not checked" in server.log(image["arn"])
    assert "Debian:12" in server.command("advisories", "status")


def test_a_scan_without_data_fails_and_the_image_does_not(
    forge: Forge, server: RunningServer, open_registry: RunningRegistry
) -> None:
    """The state says what to do; the default repository and a tag of name and version are used."""
    stanza = "Package: a\\nStatus: install ok installed\\nVersion: 1\\n"
    script = f"mkdir -p /var/lib/dpkg\nprintf '{stanza}' > /var/lib/dpkg/status\n"
    script += "printf 'ID=debian\\nVERSION_ID=99\\n' > /etc/os-release\n"
    image = forge.build(
        forge.recipe(forge.component(build=script)),
        imageScanningConfiguration={"imageScanningEnabled": True},
    )
    assert image["scanState"]["status"] == "FAILED"
    assert "imagesmith advisories" in image["scanState"]["reason"]
    slug = image["arn"].split("/")[1]
    assert image_digest(f"docker://{open_registry.host}/image-builder-image-scanning-repository:{slug}-1.0.0-1")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("printf 'ID=debian\\nVERSION_ID=12\\n' > /etc/os-release", "no deb package was found of Debian 12"),
        ("mkdir -p /var/lib/rpm; echo junk > /var/lib/rpm/Packages", "var/lib/rpm/Packages is cut short"),
        ("mkdir -p /nix/store/x", "the packages of Nix cannot be read"),
        ("echo > /only-a-file", "no package was found of Tiny 1"),
        ("rm /etc/os-release", ""),
    ],
)
def test_packages_that_cannot_be_read_are_no_clean_report(
    forge: Forge, server: RunningServer, tmp_path: Path, script: str, reason: str
) -> None:
    """The scan is FAILED with the reason, the log of the inventory has it; an image without a system is clean."""
    feed(server, tmp_path)
    image = forge.build(
        forge.recipe(forge.component(build=script)), imageScanningConfiguration={"imageScanningEnabled": True}
    )
    assert image["state"]["status"] == "AVAILABLE"
    if not reason:
        assert image["scanState"] == {"status": "COMPLETED"}
        return
    assert image["scanState"]["status"] == "FAILED"
    assert reason in image["scanState"]["reason"]
    assert reason in server.log(image["arn"]).partition("inventory | ")[2].partition("\n")[0]


def test_nothing_is_collected_when_metadata_is_off(forge: Forge, server: RunningServer) -> None:
    """No packages, no documents; provenance is signed all the same, for it is about the build."""
    image = forge.build(forge.recipe(debian(forge)), enhancedImageMetadataEnabled=False)
    assert forge.client.list_image_packages(imageBuildVersionArn=image["arn"])["imagePackageList"] == []
    kept = attached(OciLayout(server.data_dir / "oci"), image_digest(f"docker://{uris(image)[0]}"))
    assert [item.document.kind for item in kept] == [KIND, Predicate.SUMMARY.kind]


def test_importing_nothing_is_an_error_with_a_hint(server: RunningServer, tmp_path: Path) -> None:
    """`update` without a source and `import` of an empty folder end with status 1 and say what to do."""
    assert "source = " in server.command("advisories", "update", status=1)
    assert "contains no advisories" in server.command("advisories", "import", str(tmp_path), status=1)
