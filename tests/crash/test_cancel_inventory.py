"""A build and a server end at once while the packages of an image are listed and described."""

from __future__ import annotations

import time

import pytest

from testing.crash_support import prompt_seconds
from testing.leaks import assert_clean
from testing.pipeline_support import Forge, RunningServer, eventually

pytestmark = pytest.mark.tool

_PACKAGES = 20_000
_STANZA = r"Package: p\1\nStatus: install ok installed\nArchitecture: all\nVersion: 1\nDescription: x\n y\n"
_SCRIPT = f"""\
mkdir -p /var/lib/dpkg
yes x | head -n {_PACKAGES} | sed = | sed -n 's/^\\([0-9][0-9]*\\)$/{_STANZA}/p' > /var/lib/dpkg/status
printf 'ID=debian\\nVERSION_ID=12\\n' > /etc/os-release
"""
_LATER = (0.0, 0.4, 1.0)
"""Seconds after the reading of the inventory began: in its midst, while documents are written."""


def _in_inventory(server: RunningServer, forge: Forge, later: float) -> str:
    """Start a build with many packages, and wait until they are read."""
    arn = forge.start(forge.recipe(forge.component(build=_SCRIPT)))
    eventually(
        lambda: any("after" in name for name in server.containers()), "the inventory begins", seconds=90, pause=0.01
    )
    time.sleep(later)
    return arn


@pytest.mark.parametrize("later", _LATER)
def test_a_cancel_ends_an_inventory_at_once(server: RunningServer, later: float) -> None:
    """The image is CANCELLED within two seconds, and nothing of the build is left."""
    forge = server.forge
    arn = _in_inventory(server, forge, later)
    started = time.monotonic()
    forge.client.cancel_image_creation(imageBuildVersionArn=arn)
    eventually(lambda: forge.state(arn) == "CANCELLED", "CANCELLED", seconds=30)
    assert time.monotonic() - started < prompt_seconds()
    assert_clean(server)


@pytest.mark.parametrize("later", _LATER)
def test_a_server_stops_at_once_within_an_inventory(server: RunningServer, later: float) -> None:
    """SIGTERM is obeyed within two seconds; the next start ends the build with all its packages."""
    arn = _in_inventory(server, server.forge, later)
    assert server.stop() < prompt_seconds()
    server.start()
    forge = server.forge
    forge.finished(arn)
    assert f"{_PACKAGES}" in server.log(arn).replace(",", "").rpartition("inventory | ")[2]
