"""A disk of a small system in which components can run without a machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from testing.containers import libraries_of, make_tiny_root
from testing.disks import FIRST, SIZE, TABLE

TOOLS = ("mktemp", "find", "sync", "bash", "ls", "rm", "chown", "chmod", "mkdir", "cat")
STATUS = "Package: web\nStatus: install ok installed\nVersion: 1.2-3\nArchitecture: amd64\n\n"


def make_parent(folder: Path, *, fstab: str = "") -> Path:
    root = folder / "root"
    root.mkdir()
    make_tiny_root(root)
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found
        for place in (Path(found).resolve(), *libraries_of(Path(found))):
            target = (
                root
                / ("usr/bin" if place == Path(found).resolve() else str(place.parent).lstrip("/"))
                / (tool if place == Path(found).resolve() else place.name)
            )
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(place, target)
    for name in ("tmp", "proc", "dev", "etc/ssh", "root/.ssh", "var/log", "var/tmp", "var/lib/dpkg"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("etc/ssh/ssh_host_ed25519_key", "root/.ssh/authorized_keys", "var/log/own.log", "etc/machine-id"):
        (root / name).write_text("of the parent\n")
    (root / "etc/old").write_text("old\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    (root / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    (root / "var/lib/dpkg/status").write_text(STATUS)
    (root / "etc/fstab").write_text(fstab)
    raw = folder / "parent.raw"
    with raw.open("wb") as file:
        file.truncate(2 * SIZE)
    subprocess.run(["sfdisk", "-q", str(raw)], input=TABLE.encode(), check=True)
    subprocess.run(
        ["mke2fs", "-q", "-F", "-t", "ext4", "-L", "root", "-E", f"offset={FIRST}", "-d", str(root), str(raw),
         f"{(2 * SIZE - FIRST) // 1024 - 1024}k"],
        check=True,
    )  # fmt: skip
    return raw
