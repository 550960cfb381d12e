"""Who may enter a machine, and how it learns that: a fresh pair of keys per machine, told in one of two ways.

cloud-init   a NoCloud disk, volume `cidata`: works with the cloud image of every distribution
credentials  SMBIOS strings that systemd (252 or newer) turns into files before anything else starts: the managed
             base and what was built on it boot without cloud-init, in a third of the time
"""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pycdlib

if TYPE_CHECKING:
    import asyncssh

_HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
_MODULES = {
    "cloud_init_modules": ["growpart", "resizefs", "set_hostname", "users-groups", "ssh"],
    "cloud_config_modules": [],
    "cloud_final_modules": ["scripts-user"],
}
"""All that a build needs of cloud-init; user data of the recipe brings every module back."""


@dataclass(frozen=True)
class Identity:
    """The keys of one machine: ours, which it lets in, and its own, by which we know it."""

    client: asyncssh.SSHKey
    host: asyncssh.SSHKey
    instance_id: str
    """By which cloud-init tells a new machine from a restart."""

    @classmethod
    def fresh(cls) -> Identity:
        """New Ed25519 keys, from the system's randomness."""
        import asyncssh  # when the first machine begins, not when a server does

        return cls(
            asyncssh.generate_private_key("ssh-ed25519", comment="imagesmith"),
            asyncssh.generate_private_key("ssh-ed25519", comment="imagesmith-build"),
            f"i-{os.urandom(8).hex()}",
        )

    @classmethod
    def from_json(cls, data: Mapping[str, str]) -> Identity:
        """That of a machine whose disk goes on in another one. Raises ValueError, KeyError."""
        import asyncssh

        return cls(
            asyncssh.import_private_key(data["client"]), asyncssh.import_private_key(data["host"]), data["id"]
        )

    def to_json(self) -> dict[str, str]:
        """With the private keys: for files that only root reads."""
        return {
            "client": self.client.export_private_key().decode(), "host": self.host.export_private_key().decode(),
            "id": self.instance_id,
        }  # fmt: skip

    @property
    def authorized(self) -> str:
        """Our public key as a line of authorized_keys."""
        return self.client.export_public_key().decode().strip()


def credential_strings(identity: Identity) -> tuple[bytes, ...]:
    """SMBIOS strings: our key for root, and the key pair of the machine as files."""
    private = base64.b64encode(identity.host.export_private_key()).decode()
    public = base64.b64encode(identity.host.export_public_key()).decode()
    files = f"f~ {_HOST_KEY} 0600 root root - {private}\nf~ {_HOST_KEY}.pub 0644 root root - {public}\n"
    return (
        _credential("ssh.authorized_keys.root", f"{identity.authorized}\n".encode()),
        _credential("tmpfiles.extra", files.encode()),
    )


def write_seed(
    path: Path, identity: Identity, *, hostname: str, user_data: bytes = b"", password: str = ""
) -> None:
    """Write a NoCloud disk. What we need goes as vendor data, so `user_data` is the machine's as it stands.

    `password`: of root, for its console; empty leaves it without one.
    """
    meta = {"instance-id": identity.instance_id, "local-hostname": hostname}
    vendor = dict(cloud_config(identity, every_module=bool(user_data or password)))
    if password:
        vendor["chpasswd"] = {"expire": False, "list": f"root:{password}\n"}
    _write_iso(
        path,
        {
            "meta-data": json.dumps(meta).encode(),
            "user-data": user_data or b"#cloud-config\n{}\n",
            "vendor-data": b"#cloud-config\n" + json.dumps(vendor).encode() + b"\n",
        },
    )


def cloud_config(identity: Identity, *, every_module: bool) -> Mapping[str, Any]:
    """The configuration that lets us in as root (JSON is YAML)."""
    host = identity.host
    return {
        "disable_root": False,
        "ssh_pwauth": False,
        "ssh_authorized_keys": [identity.authorized],
        "users": ["default", {"name": "root", "ssh_authorized_keys": [identity.authorized]}],
        "ssh_keys": {
            "ed25519_private": host.export_private_key().decode(),
            "ed25519_public": host.export_public_key().decode().strip(),
        },
        **({} if every_module else _MODULES),
    }


def _credential(name: str, value: bytes) -> bytes:
    return f"io.systemd.credential.binary:{name}={base64.b64encode(value).decode()}".encode()


def _write_iso(path: Path, files: Mapping[str, bytes]) -> None:
    image = pycdlib.PyCdlib()
    image.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident="cidata")
    for index, (name, data) in enumerate(files.items()):
        image.add_fp(io.BytesIO(data), len(data), f"/FILE{index}.;1", rr_name=name, joliet_path=f"/{name}")
    image.write(str(path))
    image.close()
