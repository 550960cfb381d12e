"""The managed machine base, made once per session: some two minutes on a small machine.

Import the fixture in a conftest: `from fixtures_machines import machine_base`. A folder of earlier runs may be
given in IMAGESMITH_TEST_BASES; the base in it is used as long as it is fresh and its document is the same.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from imagesmith.artifacts.disks import Disk, DiskStore
from imagesmith.artifacts.machine_bases import MachineBases
from imagesmith.managed.bases import managed_base


@dataclass(frozen=True)
class MadeBase:
    """The base, where it is kept, and what was said while it was made."""

    disk: Disk
    store: DiskStore
    folder: Path
    lines: list[str]


@pytest.fixture(scope="session")
def machine_base(tmp_path_factory: pytest.TempPathFactory) -> MadeBase:
    folder = Path(os.environ.get("IMAGESMITH_TEST_BASES") or tmp_path_factory.mktemp("machine-base"))
    store = DiskStore(folder / "disks")
    base = managed_base("debian-12-x86", "machine")
    assert base is not None
    lines: list[str] = []
    disk = MachineBases(store, folder=folder / "bases").managed(base, on_line=lines.append)
    return MadeBase(disk, store, folder, lines)
