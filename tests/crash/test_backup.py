"""The backup that docs/operations.md describes: taken under load, killed, restored in another place."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from imagesmith.artifacts.layout import OciLayout
from testing.crash_support import Tally
from testing.data_folder import make_data_folder, put_blob
from testing.leaks import assert_clean
from testing.pipeline_support import HOLD, Forge, RunningServer, eventually, held, image_config, release, uris
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


def run_documented(title: str, data: Path, copy: Path) -> None:
    """Run the commands below a heading, with this environment's `imagesmith`."""
    script = documented(title, {"/var/lib/imagesmith": str(data), "/backup": str(copy)})
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(["sh", "-euc", script], check=True, env={**os.environ, "PATH": path})


@contextmanager
def writing(forge: Forge, acknowledged: list[str]) -> Iterator[None]:
    """A client that creates components all the time; appends each that was acknowledged."""
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            acknowledged.append(forge.component(build="true"))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        stop.set()
        writer.join()


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
        acknowledged: list[str] = []
        with writing(forge, acknowledged):
            eventually(lambda: len(acknowledged) > 10, "clients write")
            must_be_there = list(acknowledged)
            run_documented("Back up", data, copy)
        release(name)
        server.kill()
    # nothing of the first place may be needed
    shutil.rmtree(data)
    run_documented("Restore", moved, copy)
    with RunningServer(moved, parent=tiny_parent) as server:
        forge = server.start().forge
        assert forge.state(before["arn"]) == "AVAILABLE"
        for arn in must_be_there:
            forge.client.get_component(componentBuildVersionArn=arn)
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


def test_a_killed_backup_leaves_whole_ones(tmp_path: Path, tally: Tally) -> None:
    """Each backup that is listed is whole; the next one works and removes what the killed ones left."""
    data, copy = make_data_folder(tmp_path / "data"), tmp_path / "backup"
    for number in range(400):
        put_blob(data / "oci/blobs/sha256", f"layer {number}".encode() * 5000)
    program = [str(Path(sys.executable).with_name("imagesmith"))]
    command = [*program, "backup", str(copy), "--data-dir", str(data), "--json"]
    started = time.monotonic()
    subprocess.run([*command[:2], str(tmp_path / "measured"), *command[3:]], check=True, capture_output=True)
    whole_run = time.monotonic() - started
    killed = 0
    for share in range(4, 12):
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            child.wait(whole_run * share / 12)
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
            killed += 1
    assert killed
    subprocess.run(command, check=True, capture_output=True)
    listed = subprocess.run([*program, "restore", str(copy), "--list", "--json"], check=True, capture_output=True)
    for record in json.loads(listed.stdout):
        subprocess.run([*program, "restore", str(copy), "--check", "--backup", record["id"]], check=True)
    assert list((copy / "drafts").iterdir()) == []
    assert {place.name for place in (data / "backup-drafts").iterdir()} == {"lock"}
    tally(killed, "backups were killed")
