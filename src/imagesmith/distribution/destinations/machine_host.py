"""A host for virtual machines (libvirt, plain QEMU) as a destination: `[machine_hosts]` names one per Region.

The disk goes over SSH into a directory of the host:

    connect (our key, its known key) --> DIRECTORY/.NAME.part, as SFTP --> size --> rename to DIRECTORY/NAME

The name appears when the file is whole, so a pool that is refreshed meanwhile never shows half a disk. Only the
host key of the settings is accepted, and the SSH configuration of this machine is not read.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from imagesmith.distribution.destination import Delivery, DistributionContext
from imagesmith.distribution.failures import DeliveryFailed
from imagesmith.distribution.role_access import refused_host
from imagesmith.processes import Cancellation
from imagesmith.settings import MachineHost

if TYPE_CHECKING:
    import asyncssh

_LOGIN_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.2
_BLOCK: Final = 256 * 1024
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")


class HostCopyFailed(DeliveryFailed):
    """A disk did not reach a host; the text names the host and the reason."""


class MachineHosts:
    """Accepts disks of AMIs for Regions with a host in the settings."""

    member = ""

    def accepts(self, delivery: Delivery, /) -> bool:
        return delivery.settings.machine_host_for(delivery.account, delivery.region) is not None

    def refusal(self, delivery: Delivery, /) -> str:
        host = delivery.settings.machine_host_for(delivery.account, delivery.region)
        return "" if host is None else refused_host(delivery.plan, delivery.account, delivery.region, host)

    def deliver(self, context: DistributionContext, delivery: Delivery) -> tuple[str, ...]:
        ami, host = delivery.ami, delivery.settings.machine_host_for(delivery.account, delivery.region)
        assert ami is not None and host is not None

        def on_line(line: str) -> None:
            context.log.line("distribute", f"{ami.ami_id}: {line}")

        disk = context.disks.whole(delivery.digest, cancellation=context.cancellation)
        name = file_name(f"{ami.name}-{ami.ami_id}", "qcow2")
        context.check_fence()
        return (copy_disk(host, disk.path, name, cancellation=context.cancellation, on_line=on_line),)


def file_name(name: str, form: str) -> str:
    """The file name of a disk on a host: the AMI's name without characters that are unsafe in file names."""
    return f"{_UNSAFE.sub('-', name).strip('.-') or 'disk'}.{form}"


def copy_disk(
    host: MachineHost, disk: Path, name: str, *, cancellation: Cancellation, on_line: Callable[[str], None]
) -> str:
    """Copy a file to the host's directory under `name`; returns its path. Raises HostCopyFailed, Cancelled."""
    import asyncssh  # imported for the first copy, not at the start of a server

    cancellation.check()
    where = f"{host.user}@{host.address}:{host.port}"
    target = f"{host.directory.rstrip('/')}/{name}"
    on_line(f"copying to {where}:{target}")
    try:
        asyncio.run(_copied(host, disk, target, cancellation))
    except (OSError, asyncssh.Error, ValueError) as error:
        raise HostCopyFailed(f"the disk cannot be copied to {where}:{target}: {error}") from error
    return f"{host.address}:{target}"


async def _copied(host: MachineHost, disk: Path, target: str, cancellation: Cancellation) -> None:
    work = asyncio.ensure_future(_copy(host, disk, target))
    try:
        while not (await asyncio.wait({work}, timeout=_POLL_SECONDS))[0]:
            cancellation.check()
        work.result()
    finally:
        work.cancel()


async def _copy(host: MachineHost, disk: Path, target: str) -> None:
    import asyncssh

    known = asyncssh.import_public_key(host.host_key)
    folder, _, name = target.rpartition("/")
    draft = f"{folder}/.{name}.part"
    async with (
        asyncssh.connect(
            host.address, host.port, username=host.user, client_keys=[host.key_file], known_hosts=([known], [], []),
            config=None, agent_path=None, preferred_auth=["publickey"], login_timeout=_LOGIN_SECONDS,
        ) as connection,
        connection.start_sftp_client() as sftp,
    ):  # fmt: skip
        try:
            await sftp.put(str(disk), draft, block_size=_BLOCK, sparse=True)
            size = (await sftp.stat(draft)).size
            if size != disk.stat().st_size:
                raise HostCopyFailed(f"{size} of {disk.stat().st_size} bytes arrived at {host.address}")
            await sftp.posix_rename(draft, target)
        except BaseException:
            await _forget(sftp, draft)
            raise


async def _forget(sftp: asyncssh.SFTPClient, draft: str) -> None:
    import asyncssh

    try:
        await sftp.remove(draft)
    except (OSError, asyncssh.Error):
        return
