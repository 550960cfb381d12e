"""Disks to a host over SSH, against a real SSH server: whole or not there, and to nobody else."""

from __future__ import annotations

from pathlib import Path

import asyncssh
import pytest

from imagesmith.distribution.destinations.machine_host import HostCopyFailed, copy_disk, file_name
from imagesmith.processes import Cancellation, Cancelled
from testing.ssh_host import DATA, Host


def test_a_disk_arrives_whole_under_its_name(host: Host) -> None:
    """It replaces an older one of that name, and nothing else is left in the directory."""
    (host.folder / "web.qcow2").write_bytes(b"older")
    assert host.copy() == f"127.0.0.1:{host.folder}/web.qcow2"
    assert host.names() == ["web.qcow2"] and (host.folder / "web.qcow2").read_bytes() == DATA


def test_another_host_key_gets_nothing(host: Host) -> None:
    """A host that answers in the name of the known one is refused before anything is sent."""
    stranger = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    with pytest.raises(HostCopyFailed, match=r"cannot be copied to root@127.0.0.1:\d+:.*[Hh]ost key"):
        host.copy(host_key=stranger)
    assert host.names() == []


def test_a_key_that_is_not_let_in_is_a_failure(host: Host, tmp_path: Path) -> None:
    """The reason names the host."""
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(tmp_path / "other"))
    with pytest.raises(HostCopyFailed, match="Permission denied"):
        host.copy(key_file=str(tmp_path / "other"))


def test_a_directory_that_is_not_there_is_a_failure(host: Host) -> None:
    """Nothing is made in its place."""
    with pytest.raises(HostCopyFailed, match=r"No such file"):
        host.copy(directory=str(host.folder / "none"))
    assert host.names() == []


def test_a_cancelled_copy_leaves_no_disk(host: Host) -> None:
    """The name never appears."""
    stopped = Cancellation()
    stopped.cancel()
    with pytest.raises(Cancelled):
        copy_disk(host.described, host.disk, "web.qcow2", cancellation=stopped, on_line=lambda _: None)
    assert "web.qcow2" not in host.names()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("web 2026-11-23T18:04", "web-2026-11-23T18-04.qcow2"), ("../../etc/passwd", "etc-passwd.qcow2"),
        ("...", "disk.qcow2"), ("wöb", "w-b.qcow2"),
    ],
)  # fmt: skip
def test_names_stay_in_the_directory(name: str, expected: str) -> None:
    """Whatever an AMI is called, the file has a plain name."""
    assert file_name(name, "qcow2") == expected
