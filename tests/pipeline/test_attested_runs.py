"""What a run did with its image is attested: tests, scan, approval, and a summary; cosign and policies read it."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from imagesmith.inspection.evidence import APPROVED, BUILD_LEVEL, SCANNED, TESTED
from imagesmith.inspection.signing import PublicKey, public_key_path
from imagesmith.inspection.statements import Predicate
from testing.pipeline_support import TEMPLATE, Forge, RunningServer, image_config, image_digest, uris
from testing.registry_support import RunningRegistry
from testing.vulnerable import debian, feed
from testing.workflow_support import TEST, TEST_LAUNCH, answer, run_with, shell, waiting, workflow

pytestmark = pytest.mark.tool
MANAGED = [
    f"arn:aws:imagebuilder:us-east-1:aws:workflow/{kind}-container/x.x.x" for kind in ("build/build", "test/test")
]
ALL = "tested: true\napproved: true\nmaximumSeverity: HIGH\nmaximumAgeDays: 1\n"


def said(server: RunningServer, uri: str, predicate: Predicate) -> Any:
    """What cosign verifies: the predicate of the one statement of this type."""
    key = public_key_path(server.data_dir)
    argv = [
        str(Path(sys.executable).parent / "cosign"), "verify-attestation", "--key", str(key), "--type",
        str(predicate), "--insecure-ignore-tlog", "--allow-insecure-registry", "--allow-http-registry", uri,
    ]  # fmt: skip
    environment = {**os.environ, "HOME": str(server.data_dir)}
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, check=True)
    (line,) = done.stdout.splitlines()
    return json.loads(base64.b64decode(json.loads(line)["payload"]))["predicate"]


def judged(server: RunningServer, image: str, rules: str, status: int = 0) -> str:
    """The answer of `image verify --policy`."""
    file = server.data_dir.parent / "policy.yaml"
    file.write_text(rules)
    return server.command("image", "verify", image, "--policy", str(file), status=status)


def test_tests_scan_and_approval_are_attested_and_judged(
    forge: Forge, server: RunningServer, tmp_path: Path
) -> None:
    """Each is a statement that cosign verifies, and so is their summary; a policy refuses in words what is not."""
    feed(server, tmp_path)
    wait = "  - {name: Ask, action: WaitForAction}\n"
    ask = workflow(forge, "TEST", TEST + TEST_LAUNCH + shell("Try", "true") + wait)
    arn = run_with(
        forge, *MANAGED, ask, recipe=forge.recipe(debian(forge)),
        imageScanningConfiguration={"imageScanningEnabled": True},
    )  # fmt: skip
    answer(forge, waiting(forge, arn), reason="looked at it")
    (uri,) = uris(forge.finished(arn))
    tests = said(server, uri, Predicate.TEST_RESULT)
    assert (tests["result"], tests["passedTests"]) == ("PASSED", [f"{ask}#Try"])
    scan = said(server, uri, Predicate.VULNERABILITIES)["scanner"]["result"]
    assert [item["id"] for item in scan["findings"]] == ["CVE-2024-0001", "CVE-2024-0002"]
    (approval,) = said(server, uri, Predicate.APPROVAL)["approvals"]
    assert (approval["step"], approval["reason"]) == (f"{ask}#Ask", "looked at it")
    assert approval["approvedBy"].startswith("arn:aws:iam::000000000000:")
    summary = said(server, uri, Predicate.SUMMARY)
    name, digest = uri.rpartition(":")[0], image_digest(f"docker://{uri}")
    assert (summary["verificationResult"], summary["resourceUri"]) == ("PASSED", f"{name}@{digest}")
    assert summary["verifiedLevels"] == [BUILD_LEVEL, TESTED, SCANNED, APPROVED]
    assert {item["uri"] for item in summary["inputAttestations"]} == set(Predicate) - {Predicate.SUMMARY}
    for reference in (arn, uri):
        assert "approved by arn:aws:iam::" in judged(server, reference, ALL)
        refusal = judged(server, reference, ALL.replace("HIGH", "MEDIUM"), status=1)
        assert "does not fulfil the policy: maximumSeverity: findings above MEDIUM: CVE-2024-0001" in refusal
    key = PublicKey.read(public_key_path(server.data_dir)).id
    assert "verified" in judged(server, uri, f"builders: [{key}]\nparents: ['*tiny*']\n")
    assert "builders: it was built and signed by" in judged(server, uri, f"builders: [{'0' * 16}]\n", status=1)
    assert ":1:1 unknown-key" in judged(server, uri, "test: true\n", status=1)


def test_what_was_not_done_is_not_attested(forge: Forge, server: RunningServer) -> None:
    """Without tests, scan and approval no statement claims any, the summary has no level, and a policy refuses."""
    image = forge.build(forge.recipe(forge.component(build="true")))
    (uri,) = uris(image)
    assert said(server, uri, Predicate.SUMMARY)["verifiedLevels"] == [BUILD_LEVEL]
    refusal = judged(server, image["arn"], ALL, status=1)
    for words in ("tested: no test result", "approved: no approval", "maximumSeverity: no scan is attested"):
        assert words in refusal


def test_annotations_are_of_the_image_and_not_of_its_parent(forge: Forge, open_registry: RunningRegistry) -> None:
    """Name and digest of a real parent, the time of the configuration; labels only where the image set its own."""
    labels = "LABEL org.opencontainers.image.source=https://git.example/{0} org.opencontainers.image.revision={0}\n"
    recipe = forge.recipe(forge.component(build="true"), dockerfileTemplateData=TEMPLATE + labels.format("one"))
    (parent,) = uris(forge.build(recipe))
    name = "org.opencontainers.image"
    assert annotations_of(parent) == {
        **annotations_of(parent), f"{name}.source": "https://git.example/one", f"{name}.revision": "one",
    }  # fmt: skip
    for own, expected in (
        ("", {}),
        (labels.format("two"), {"source": "https://git.example/two", "revision": "two"}),
    ):
        image = forge.build(
            forge.recipe(forge.component(build="true"), parentImage=parent, dockerfileTemplateData=TEMPLATE + own)
        )
        (uri,) = uris(image)
        assert annotations_of(uri) == {
            f"{name}.base.name": parent,
            f"{name}.base.digest": image_digest(f"docker://{parent}"),
            f"{name}.created": image_config(f"docker://{uri}")["created"],
            **{f"{name}.{key}": value for key, value in expected.items()},
        }


def annotations_of(uri: str) -> dict[str, str]:
    """Of the manifest that a registry has."""
    argv = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{uri}"]
    raw = subprocess.run(argv, capture_output=True, check=True).stdout
    return dict(json.loads(raw).get("annotations") or {})


def test_a_tag_of_the_layout_that_was_moved_is_noticed(forge: Forge, server: RunningServer) -> None:
    """An image that stands under another image's name was built under its own; --any-name leaves the name out."""
    one, two = (forge.build(forge.recipe(forge.component(build=f"echo {word} > /x"))) for word in ("a", "b"))
    index = server.data_dir / "oci/index.json"
    kept = index.read_text()
    document = json.loads(kept)
    names = [f"/{image['arn'].split('/')[1]}:1.0.0-1" for image in (one, two)]
    entries = [
        next(entry for entry in document["manifests"]
             if entry.get("annotations", {}).get("org.opencontainers.image.ref.name", "").endswith(name))
        for name in names
    ]  # fmt: skip
    entries[0]["digest"], entries[0]["size"] = entries[1]["digest"], entries[1]["size"]
    index.write_text(json.dumps(document))
    try:
        assert f"it was built as 000000000000/us-east-1{names[1]}, not as" in server.command(
            "image", "verify", one["arn"], status=1
        )
        assert "verified" in server.command("image", "verify", one["arn"], "--any-name")
    finally:
        index.write_text(kept)
    assert "verified" in server.command("image", "verify", one["arn"])
