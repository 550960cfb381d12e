"""User data that takes away what lets us in, on a real Debian: builds enter all the same, or say why not."""

from __future__ import annotations

import gzip
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText
from pathlib import Path

import pytest

from imagesmith.artifacts.disk_root import open_root, unpack
from imagesmith.instances.command import Command
from testing.machines import MadeBase, launch_with_user_data

pytestmark = [pytest.mark.tool, pytest.mark.timeout(1500)]

OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIO5wrEhxbEfQbTgk6BVqkIq5zH1C5Kx1dqZ8Wq2Kk0ab someone"
LOCKED = f"""\
## template: jinja
#cloud-config
# {{{{ v1.cloud_name }}}}
users: [{{name: deploy, ssh_authorized_keys: ["{OTHER}"]}}]
ssh_authorized_keys: ["{OTHER}"]
disable_root: true
ssh_deletekeys: true
ssh_genkeytypes: [ecdsa]
ssh_pwauth: true
chpasswd: {{expire: true, list: "root:secret"}}
write_files:
  - path: /etc/ssh/sshd_config
    content: |
      PermitRootLogin no
      PubkeyAuthentication no
      AllowUsers deploy
runcmd: [[touch, /run-by-cloud-init], [rm, -rf, /root/.ssh], [systemctl, mask, --now, ssh]]
power_state: {{mode: reboot}}
"""
HOOK = "#cloud-boothook\n#!/bin/sh\necho hook >>/by-the-hook\n"
SCRIPT = "#!/bin/sh\nid deploy >/by-the-script; exit 1\n"


def multipart(*parts: tuple[str, str]) -> bytes:
    message = MIMEMultipart()
    for kind, text in parts:
        message.attach(MIMEText(text, kind, "utf-8"))
    return message.as_bytes()


def files_of(disk: Path, folder: Path) -> dict[str, bytes]:
    """What the image holds where keys may be."""
    folder.mkdir()
    wanted = ("etc", "etc/ssh", "root", "home", "var", "var/lib", "var/lib/cloud")
    with open_root(disk) as root:
        unpack(root, folder, wanted=lambda path, _: path.startswith(wanted[1:4] + wanted[6:]) or path in wanted)
    found = [place for place in folder.rglob("*") if place.is_file() and not place.is_symlink()]
    return {str(place.relative_to(folder)): place.read_bytes() for place in found}


def test_user_data_cannot_lock_us_out_and_nothing_of_us_stays(machine_base: MadeBase, tmp_path: Path) -> None:
    """Other users and keys, no login for root, no sshd, new host keys, a restart: all obeyed, and entered.

    The user data is compressed, in parts, and one of them is a template; what fails of it is said.
    """
    lines: list[str] = []
    user_data = multipart(("jinja2", LOCKED), ("cloud-boothook", HOOK), ("x-shellscript", SCRIPT))
    machine = launch_with_user_data(tmp_path, machine_base, gzip.compress(user_data), lines)
    try:
        found = machine.run(
            Command(["sh", "-c", "cat /by-the-hook /by-the-script; ls /etc/ssh /run-by-cloud-init"])
        ).stdout
        text = found.decode()
        assert text.count("hook\n") == 2, "it restarted once, as it was told"
        assert "(deploy)" in text and "/run-by-cloud-init" in text
        assert "ssh_host_ecdsa_key" in text and "ssh_host_ed25519_key" not in text
        machine.leave()
        machine.stop()
        kept = files_of(machine.disk.path, tmp_path / "kept")
    finally:
        machine.close()
    assert any("warning: cloud-init did not do all" in line and "scripts-user" in line for line in lines)
    key = machine.disk.identity.marks[0].encode()
    assert [name for name, data in kept.items() if key in data] == []
    assert OTHER.encode() in kept["home/deploy/.ssh/authorized_keys"]
    assert not [name for name in kept if "imagesmith" in name]
