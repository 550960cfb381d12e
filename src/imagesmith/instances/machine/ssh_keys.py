"""The SSH keys of one machine, new for each, and the SMBIOS strings that pass them to the guest.

credentials  SMBIOS strings that systemd (252 or newer) turns into files before anything else starts: the managed
             base and images built on it boot without cloud-init, in a third of the time
cloud-init   a NoCloud disk (cloud_init.py): works with the cloud image of every distribution

Every machine has the strings; the disk is for machines that start like a user's, or with user data (way_in.py).
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from imagesmith.instances.machine.way_in import tmpfiles_lines

if TYPE_CHECKING:
    import asyncssh

_HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"


@dataclass(frozen=True)
class MachineIdentity:
    """The keys of one machine: the client key that it accepts, and its own host key, by which it is recognised."""

    client: asyncssh.SSHKey
    host: asyncssh.SSHKey
    instance_id: str
    """Instance id, by which cloud-init distinguishes a new machine from a restart."""

    @classmethod
    def fresh(cls) -> MachineIdentity:
        """New Ed25519 keys, from the system's randomness."""
        import asyncssh  # at the start of the first machine, not of a server

        return cls(
            asyncssh.generate_private_key("ssh-ed25519", comment="imagesmith"),
            asyncssh.generate_private_key("ssh-ed25519", comment="imagesmith-build"),
            f"i-{os.urandom(8).hex()}",
        )

    @classmethod
    def from_json(cls, data: Mapping[str, str]) -> MachineIdentity:
        """The identity of an earlier machine whose disk another one continues. Raises ValueError, KeyError."""
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

    @property
    def marks(self) -> tuple[str, str]:
        """Strings that identify files with our public key, or with the key pair of the machine."""
        return self.authorized.split()[1], self.host.export_public_key().decode().split()[1]


def credential_strings(identity: MachineIdentity, *, host_key: bool = True) -> tuple[bytes, ...]:
    """SMBIOS strings: our key for root and, unless cloud-init has it, the key pair of the machine, as files."""
    private = base64.b64encode(identity.host.export_private_key()).decode()
    public = base64.b64encode(identity.host.export_public_key()).decode()
    files = f"f~ {_HOST_KEY} 0600 root root - {private}\nf~ {_HOST_KEY}.pub 0644 root root - {public}\n"
    files = (files if host_key else "") + tmpfiles_lines(identity.authorized)
    return (_credential("tmpfiles.extra", files.encode()),)


def _credential(name: str, value: bytes) -> bytes:
    return f"io.systemd.credential.binary:{name}={base64.b64encode(value).decode()}".encode()
