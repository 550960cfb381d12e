"""The backup that docs/operations.md describes: taken while a build runs, restored in another place."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from imagesmith.artifacts.layout import OciLayout
from testing.crash_support import Tally
from testing.leaks import assert_clean
from testing.pipeline_support import HOLD, RunningServer, held, image_config, release, uris
from testing.workflow_support import answer, build_document, run_with, shell, waiting, workflow

pytestmark = pytest.mark.tool

_DOCUMENT = Path(__file__).parents[2] / "docs" / "operations.md"


def documented(title: str, places: dict[str, str]) -> str:
    """The commands below a heading of the operations page, with other places."""
    text = _DOCUMENT.read_text().partition(f"**{title}**")[2]
    commands = re.search(r"```\n(.*?)```", text, re.DOTALL)
    assert commands is not None
    script = commands[1]
    for name, place in places.items():
        script = script.replace(name, place)
    return script


def test_a_backup_of_a_running_server_is_whole_in_another_place(
    tmp_path: Path, tiny_parent: str, tally: Tally
) -> None:
    """Images and their blobs are there, builds that ran or waited go on, and a new one works; keys stay valid."""
    data, copy, moved = tmp_path / "data", tmp_path / "backup", tmp_path / "moved"
    with RunningServer(data, parent=tiny_parent) as server:
        forge = server.start().forge
        before = forge.build(forge.recipe(forge.component(build="echo kept > /kept")))
        name = forge.name("hold")
        running = forge.start(forge.recipe(forge.component(build=HOLD.format(name=name))))
        asks = build_document("  - {name: Ask, action: WaitForAction}\n" + shell("After", "true"))
        asking = run_with(forge, workflow(forge, "BUILD", asks))
        step = waiting(forge, asking)
        held(name)
        script = documented("Back up", {"/var/lib/imagesmith": str(data), "/backup": str(copy)})
        subprocess.run(["sh", "-euc", script], check=True)
        release(name)
        server.kill()
    # nothing of the first place may be needed
    shutil.rmtree(data)
    script = documented("Restore", {"/var/lib/imagesmith": str(moved), "/backup": str(copy)})
    subprocess.run(["sh", "-euc", script], check=True)
    with RunningServer(moved, parent=tiny_parent) as server:
        forge = server.start().forge
        assert forge.state(before["arn"]) == "AVAILABLE"
        image = forge.client.get_image(imageBuildVersionArn=before["arn"])["image"]
        assert image_config(uris(image)[0])["architecture"] == "amd64"
        held(name)
        release(name)
        answer(forge, step)
        for arn in (running, asking):
            forge.finished(arn)
        forge.build(forge.recipe(forge.component(build="true")))
        layout = OciLayout(moved / "oci")
        for digest in layout.references().values():
            assert layout.read(digest).layers
        server.stop()
        assert_clean(server)
    tally(2, "went on from a backup in another place")
