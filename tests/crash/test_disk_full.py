"""A full disk: the build fails and says so, what was built before is whole, and the next build works again."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from imagesmith.artifacts.layout import OciLayout
from testing.commands import COMMAND
from testing.crash_support import Tally
from testing.leaks import assert_clean
from testing.pipeline_support import HOLD, RunningServer, held, image_config, release, uris
from testing.small_disk import fill, free_bytes, small_disk_at

pytestmark = pytest.mark.tool

_MIB = 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path, tiny_parent: str) -> Iterator[RunningServer]:
    """A server whose data directory is a small file system of its own."""
    with (
        small_disk_at(tmp_path / "data", megabytes=256) as data,
        RunningServer(data, parent=tiny_parent, settings="[builds]\nfree_disk_mb = 0\n") as server,
    ):
        yield server.start()
        if server.pid:
            server.stop()
        assert_clean(server)


def assert_whole(server: RunningServer, image: dict[str, Any]) -> None:
    """Every blob of an image in the embedded layout is there and is what its digest says."""
    assert image_config(uris(image)[0])["architecture"] == "amd64"
    layout = OciLayout(server.data_dir / "oci")
    for digest in layout.references().values():
        found = layout.read(digest)
        for blob in (digest, found.config_digest, *found.layers):
            name = blob.removeprefix("sha256:")
            done = subprocess.run(
                ["sha256sum", str(layout.path / "blobs" / "sha256" / name)],
                capture_output=True,
                text=True,
                check=True,
            )
            assert done.stdout.split()[0] == name


def test_a_step_that_fills_the_disk_fails(small_disk: RunningServer) -> None:
    """The step's own words say that the disk is full; its files are gone afterwards and the next build works."""
    forge = small_disk.forge
    before = forge.build(forge.recipe(forge.component(build="echo kept > /kept")))
    free = free_bytes(small_disk.data_dir)
    full = forge.build(forge.recipe(forge.component(build="head -c 400000000 /dev/zero > /big")), "FAILED")
    assert "No space left on device" in full["state"]["reason"]
    assert free_bytes(small_disk.data_dir) > free - 2 * _MIB
    assert_clean(small_disk)
    assert_whole(small_disk, before)
    forge.build(forge.recipe(forge.component(build="true")))


def test_a_build_is_ended_before_the_disk_is_full(small_disk: RunningServer) -> None:
    """What the settings want free stays free: the step is ended, and the reason says why."""
    small_disk.stop()
    small_disk.write_settings({}, "[builds]\nfree_disk_mb = 64\n")
    forge = small_disk.start().forge
    script = "while head -c 2000000 /dev/zero >> /big; do sleep 0.02; done"
    image = forge.build(forge.recipe(forge.component(build=script)), "FAILED")
    assert "64 MiB must stay free" in image["state"]["reason"]
    forge.build(forge.recipe(forge.component(build="true")))


@pytest.mark.parametrize("leave", [0, 3_000_000])
def test_a_disk_that_is_full_while_the_image_is_kept_fails_the_build(small_disk: RunningServer, leave: int) -> None:
    """The reason names the disk though not a byte is free; the server answers; after freeing space all goes on."""
    forge = small_disk.forge
    before = forge.build(forge.recipe(forge.component(build="true")))
    name = forge.name("full")
    script = f"head -c 60000000 /dev/urandom > /random; {HOLD.format(name=name)}; true"
    arn = forge.start(forge.recipe(forge.component(build=script)))
    held(name)
    ballast = fill(small_disk.data_dir, leave=leave)
    release(name)
    image = forge.finished(arn, "FAILED")
    assert "no space is left on the disk" in image["state"]["reason"]
    assert forge.state(before["arn"]) == "AVAILABLE"
    ballast.unlink()
    assert_clean(small_disk)
    assert_whole(small_disk, before)
    forge.build(forge.recipe(forge.component(build="true")))


def test_a_full_disk_refuses_changes_and_answers_questions(small_disk: RunningServer) -> None:
    """Writes get the documented 503 and store nothing, reads work; a restart says what is wrong."""
    forge = small_disk.forge
    recipe = forge.recipe(forge.component(build="true"))
    image = forge.build(recipe)
    small_disk.kill()
    (small_disk.data_dir / "reserve").unlink()
    forge = small_disk.start().forge
    ballast = fill(small_disk.data_dir)
    with pytest.raises(ClientError) as refused:
        forge.start(recipe)
    assert refused.value.response["Error"]["Code"] == "ServiceUnavailableException"
    assert forge.state(image["arn"]) == "AVAILABLE"
    ballast.unlink()
    forge.build(recipe)


def test_a_server_that_is_killed_on_a_full_disk_goes_on(small_disk: RunningServer, tally: Tally) -> None:
    """It does not start without a byte, and says so; with space again the build of before ends AVAILABLE."""
    forge = small_disk.forge
    name = forge.name("full")
    arn = forge.start(forge.recipe(forge.component(build=f"echo once >> /count; {HOLD.format(name=name)}")))
    held(name)
    (small_disk.data_dir / "reserve").unlink()
    ballast = fill(small_disk.data_dir)
    small_disk.kill()
    done = subprocess.run(
        [COMMAND, "serve", "--port", "0", "--data-dir", str(small_disk.data_dir)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "no space is left on the disk" in done.stderr, done.stderr
    ballast.unlink()
    small_disk.start()
    release(name)
    small_disk.forge.finished(arn)
    assert small_disk.log(arn).count("end | AVAILABLE") == 1
    tally(1, "was killed on a disk without a free byte")
