"""The disk of one machine: its backing chain, its state in the cache, and the keys that its guest accepts.

machines/<name>/            the machine's folder, removed with the machine
  root.qcow2                overlay: everything the machine changes
  <key>-<random>.qcow2      overlays between root.qcow2 and the parent, if the run uses the cache (backing_chain.py)
  seed.img | string-0, 1    the keys for the login (cloud_init.py, ssh_keys.py)
  uefi-variables.fd

No file exists before create(), so until then a machine can continue on the disk of an earlier one.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from imagesmith import processes
from imagesmith.artifacts.overlays import DiskState
from imagesmith.instances.machine.backing_chain import BackingChain, make_disk, virtual_size
from imagesmith.instances.machine.cloud_init import write_seed
from imagesmith.instances.machine.hardware import UEFI_VARIABLES, Drive
from imagesmith.instances.machine.metadata import HOSTNAME
from imagesmith.instances.machine.options import MachineOptions
from imagesmith.instances.machine.ssh_keys import MachineIdentity, credential_strings
from imagesmith.instances.protocol import InstanceError

_TOOL_SECONDS = 120.0
_GIB = 1024**3
_MIB = 1024**2


class CachedDisk:
    """The files of one machine. `parent` is the disk that it starts on (qcow2, absolute path)."""

    def __init__(self, folder: Path, parent: Path, options: MachineOptions) -> None:
        self.folder = folder
        self.path = folder / "root.qcow2"
        """The overlay that the machine writes to."""
        self.chain = BackingChain(parent)
        self.identity = MachineIdentity.fresh()
        """The keys that the guest accepts; they belong to the disk, and are kept with it."""
        self.state: DiskState | None = None
        """The cached state that its content comes from; None if that is unknown or not needed."""
        self._options = options
        self._seed = folder / "seed.img"

    @property
    def parent(self) -> Path:
        return self.chain.parent

    @property
    def seeded(self) -> bool:
        """Whether cloud-init configures the guest, from a disk of its own."""
        return self._options.entry != "credentials" or bool(self._options.user_data)

    @property
    def largest_mb(self) -> int:
        """The size of the largest disk, as the guest sees it."""
        return max(virtual_size(self.path) // _MIB, *(v.size_gb * 1024 for v in self._options.volumes), 0)

    def resume(self, chain: BackingChain, identity: MachineIdentity | None) -> None:
        """Continue on the disk that an earlier machine left, with that machine's keys; before create() only."""
        self.chain = chain
        self.identity = identity or self.identity

    def create(self) -> None:
        """Make the machine's folder: overlay, volumes, and the files with its keys. Raises InstanceError."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True, mode=0o700)
        make_disk(self.chain, self.path, bytes_wanted=self._options.root_gb * _GIB)
        for volume in self._options.volumes:
            self._image(
                ["create", "-q", "-f", "qcow2", str(self.folder / f"{volume.name}.qcow2"), f"{volume.size_gb}G"]
            )
        if self._options.firmware == "uefi":
            shutil.copyfile(UEFI_VARIABLES, self.folder / "uefi-variables.fd")
        for index, text in enumerate(credential_strings(self.identity, host_key=not self.seeded)):
            (self.folder / f"string-{index}").write_bytes(text)
        if self.seeded:
            write_seed(
                self._seed, self.identity, hostname=HOSTNAME,
                user_data=self._options.user_data, password=self._options.password,
            )  # fmt: skip

    def drives(self) -> tuple[Drive, ...]:
        """The disks of the machine in the order in which the firmware tries them."""
        drives = [Drive("root", self.path.name)]
        drives += [Drive(volume.name, f"{volume.name}.qcow2") for volume in self._options.volumes]
        if self.seeded:
            drives.append(Drive("seed", self._seed.name, "raw", read_only=True))
        return tuple(drives)

    def strings(self) -> tuple[str, ...]:
        """The files whose contents become SMBIOS strings."""
        return tuple(sorted(path.name for path in self.folder.glob("string-*")))

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _image(self, arguments: Sequence[str]) -> None:
        try:
            processes.check(["qemu-img", *arguments], what="making a disk", timeout=_TOOL_SECONDS)
        except (processes.ProcessFailed, FileNotFoundError) as error:
            raise InstanceError(f"machine {self.folder.name} has no disk: {error}") from error
