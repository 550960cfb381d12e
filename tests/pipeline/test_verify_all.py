"""`imagesmith verify` on a server with real images: what is lost, changed or unsigned is named, and made again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from testing.pipeline_support import RunningServer

pytestmark = pytest.mark.tool


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, tiny_parent: str) -> Iterator[RunningServer]:
    """A server of its own with one image, whose files the tests change."""
    with RunningServer(tmp_path_factory.mktemp("kept") / "data", parent=tiny_parent) as server:
        forge = server.start().forge
        forge.build(forge.recipe(forge.component(build="echo kept > /kept")))
        yield server
        server.stop()


def verified(server: RunningServer, *words: str, status: int = 0) -> dict[str, Any]:
    output = server.command("verify", *words, "--json", status=status)
    found: dict[str, Any] = json.loads(output[output.index("{") : output.rindex("}") + 1])
    return found


def largest_blob(server: RunningServer) -> Path:
    return max((server.data_dir / "oci/blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)


def test_a_whole_server_has_no_fault(kept: RunningServer) -> None:
    """Every byte and every signature, while the server runs."""
    found = verified(kept, "--all")
    assert found["faults"] == [] and found["blobs"] > 2 and found["images"] == 1 and found["size"] > 1000
    assert "1 images" in kept.command("verify")


def test_a_changed_blob_is_found_by_its_bytes_and_made_again(kept: RunningServer) -> None:
    """Looking for files is not enough; the container storage has the same bytes."""
    blob = largest_blob(kept)
    content = blob.read_bytes()
    blob.unlink()  # the file has other names
    blob.write_bytes(content[:-1] + b"x")
    assert verified(kept)["faults"] == []
    fault = verified(kept, "--all", status=1)["faults"][0]
    assert fault["subject"] == f"sha256:{blob.name}" and "is damaged" in fault["problem"]
    assert any(":1.0.0-1" in name for name in fault["needed_by"])
    repaired = verified(kept, "--all", "--repair")["faults"]
    assert [each["repaired"] for each in repaired] == [True]
    assert verified(kept, "--all")["faults"] == [] and blob.read_bytes() == content


def test_what_nothing_has_stays_a_fault(kept: RunningServer) -> None:
    """The command says so, and what helps."""
    index = kept.data_dir / "oci" / "index.json"
    entries = json.loads(index.read_bytes())["manifests"]
    manifest = next(
        kept.data_dir / "oci/blobs/sha256" / entry["digest"].removeprefix("sha256:")
        for entry in entries
        if ":1.0.0-1" in (entry.get("annotations") or {}).get("org.opencontainers.image.ref.name", "")
    )
    content = manifest.read_bytes()
    manifest.unlink()
    try:
        output = kept.command("verify", "--all", "--repair", status=1)
        assert f"fault: sha256:{manifest.name}" in output and "restore it from a backup" in output
    finally:
        manifest.write_bytes(content)


def test_a_damaged_journal_is_named(kept: RunningServer) -> None:
    """A start would refuse it, perhaps months later."""
    kept.stop()
    journal = kept.data_dir / "engine.sqlite"
    content = journal.read_bytes()
    journal.write_bytes(content[:4096] + b"\xff" * 8192 + content[12288:])
    try:
        faults = verified(kept, "--all", status=1)["faults"]
        assert [fault["subject"] for fault in faults] == [str(journal)]
    finally:
        journal.write_bytes(content)
        kept.start()


def test_an_image_without_provenance_is_named(kept: RunningServer) -> None:
    """Somebody who can write the layout can remove a statement, and cannot sign one."""
    index = kept.data_dir / "oci" / "index.json"
    content = index.read_bytes()
    document = json.loads(content)
    document["manifests"] = [entry for entry in document["manifests"] if "artifactType" not in entry]
    index.write_text(json.dumps(document))
    try:
        faults = verified(kept, "--all", status=1)["faults"]
        assert [fault["problem"] for fault in faults] == ["it has no provenance"]
        assert ":image/" in faults[0]["subject"]
        assert verified(kept)["faults"] == []
    finally:
        index.write_bytes(content)


def test_an_image_that_left_the_layout_is_named(kept: RunningServer) -> None:
    """Its record says AVAILABLE; its blobs are counted as needed by nothing."""
    index = kept.data_dir / "oci" / "index.json"
    content = index.read_bytes()
    index.write_text(json.dumps({**json.loads(content), "manifests": []}))
    try:
        found = verified(kept, status=1)
        assert "is not in the layout" in found["faults"][0]["problem"] and found["orphans"] > 2
    finally:
        index.write_bytes(content)
