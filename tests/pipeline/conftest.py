"""One server for the whole folder, with a registry; every test leaves it without a trace of its builds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.disks import disk_of
from testing.leaks import assert_clean
from testing.machine_images import Base, add, add_disk
from testing.pipeline_support import REGION, Forge, RunningServer
from testing.registry_support import RunningRegistry
from testing.scan_samples import STATUS


@pytest.fixture(scope="session")
def server(
    tmp_path_factory: pytest.TempPathFactory, tiny_parent: str, open_registry: RunningRegistry
) -> Iterator[RunningServer]:
    """A server whose region has a registry."""
    folder = tmp_path_factory.mktemp("server") / "data"
    with RunningServer(folder, parent=tiny_parent, registries={REGION: open_registry.host}) as running:
        yield running.start()
        running.stop()
        assert_clean(running)


@pytest.fixture
def forge(server: RunningServer) -> Iterator[Forge]:
    """Makes and builds things on the server; no build may leave anything behind."""
    yield server.forge
    assert_clean(server)


@pytest.fixture
def base(forge: Forge, disk_file: Path) -> Base:
    """The AMI of a disk with a system and packages."""
    return add(forge, disk_file)


@pytest.fixture
def layouts(tiny_parent: str) -> Path:
    """The folder that local parents may be in."""
    return Path(tiny_parent.split(":")[1]).parent


@pytest.fixture
def blank(forge: Forge, tmp_path: Path) -> str:
    """The AMI of a disk that contains no system: the firmware finds nothing to boot."""
    return add_disk(forge, tmp_path, code=b"\xcd\x18")


@pytest.fixture(scope="session")
def disk_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, place = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("place")
    for name in ("etc", "usr/lib", "var/lib/dpkg", "srv/x.dist-info", "srv/node_modules/left-pad"):
        (root / name).mkdir(parents=True)
    (root / "var/lib/dpkg/status").write_text(STATUS)
    (root / "usr/lib/os-release").write_text('ID=debian\nNAME="Debian GNU/Linux"\nVERSION_ID=12\n')
    (root / "etc/os-release").symlink_to("../usr/lib/os-release")
    (root / "srv/x.dist-info/METADATA").write_text("Name: Jinja2\nVersion: 3.1.2\n")
    (root / "srv/node_modules/left-pad/package.json").write_text('{"name": "left-pad", "version": "1.3.0"}')
    return disk_of(root, place)
