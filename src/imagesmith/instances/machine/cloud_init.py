"""The NoCloud disk from which cloud-init configures a machine: who may enter it, and its user data.

cloud-init finds the disk by its label, on ISO 9660 and on FAT. It is FAT here, because mtools write that in a file
and are needed for the boot disks anyway.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from imagesmith import processes
from imagesmith.instances.machine.ssh_keys import MachineIdentity
from imagesmith.instances.machine.way_in import boot_hook
from imagesmith.instances.protocol import InstanceError

_TOOL_SECONDS: Final = 60.0
_SECTOR_BYTES: Final = 512
_SPARE_SECTORS: Final = 2048
"""Space for the tables of the file system and unused ends of clusters."""
_MODULES: Final = {
    "cloud_init_modules": ["growpart", "resizefs", "set_hostname", "users-groups", "ssh"],
    "cloud_config_modules": [],
    "cloud_final_modules": ["scripts-user"],
}
"""The only cloud-init modules that a machine without user data needs."""


def write_seed(
    path: Path, identity: MachineIdentity, *, hostname: str, user_data: bytes = b"", password: str = ""
) -> None:
    """Write a NoCloud disk. imagesmith's part is vendor data, so `user_data` stays unchanged.

    With user data, the vendor data is only a boot hook: cloud-init would merge more configuration with the user
    data. `password`: of root, for its console; empty sets none. Raises InstanceError.
    """
    meta = {"instance-id": identity.instance_id, "local-hostname": hostname}
    hook = boot_hook(identity.authorized, identity.host.export_private_key().decode())
    parts = [{"type": "text/cloud-boothook", "content": hook}]
    if not user_data:
        config = dict(cloud_config(identity, every_module=bool(password)))
        if password:
            config["chpasswd"] = {"expire": False, "list": f"root:{password}\n"}
        parts.append({"type": "text/cloud-config", "content": f"#cloud-config\n{json.dumps(config)}\n"})
    files = {
        "meta-data": json.dumps(meta).encode(),
        "user-data": user_data or b"#cloud-config\n{}\n",
        "vendor-data": b"#cloud-config-archive\n" + json.dumps(parts).encode() + b"\n",
    }
    write_fat(path, files)


def cloud_config(identity: MachineIdentity, *, every_module: bool) -> Mapping[str, Any]:
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


def write_fat(path: Path, files: Mapping[str, bytes], *, label: str = "cidata") -> None:
    """Make a FAT file system that holds `files`. Raises InstanceError."""
    sectors = _SPARE_SECTORS + sum(len(data) for data in files.values()) // _SECTOR_BYTES
    path.unlink(missing_ok=True)
    _tool(["mformat", "-i", str(path), "-C", "-T", str(sectors), "-v", label, "::"])
    for name, data in files.items():
        _tool(["mcopy", "-i", str(path), "-", f"::{name}"], data)


def _tool(argv: list[str], data: bytes | None = None) -> None:
    try:
        processes.check(argv, what="making the cloud-init disk", input=data, timeout=_TOOL_SECONDS)
    except (processes.ProcessFailed, FileNotFoundError) as error:
        raise InstanceError(f"the machine has no cloud-init disk: {error}") from error
