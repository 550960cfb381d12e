"""An SSH server on loopback that machine images are copied to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import asyncssh

from imagesmith.distribution.destinations.machine_host import copy_disk
from imagesmith.processes import Cancellation
from imagesmith.settings import MachineHost


@dataclass
class Host:
    """A running SSH server, and how the settings describe it."""

    described: MachineHost
    folder: Path
    disk: Path

    def copy(self, name: str = "web.qcow2", **changes: object) -> str:
        host = replace(self.described, **changes)  # type: ignore[arg-type]
        return copy_disk(host, self.disk, name, cancellation=Cancellation(), on_line=lambda _: None)

    def names(self) -> list[str]:
        return sorted(place.name for place in self.folder.iterdir())


DATA = bytes(range(256)) * 8192


@contextmanager
def listening_host(tmp_path: Path) -> Iterator[Host]:
    """A server whose folder is empty, in a temporary folder."""
    folder, disk, key = tmp_path / "images", tmp_path / "disk", tmp_path / "key"
    folder.mkdir()
    disk.write_bytes(DATA)
    ours, theirs = (asyncssh.generate_private_key("ssh-ed25519") for _ in range(2))
    ours.write_private_key(str(key))
    (tmp_path / "authorized").write_bytes(ours.export_public_key())
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def listen() -> asyncssh.SSHAcceptor:
        return await asyncssh.listen(
            "127.0.0.1", 0, server_host_keys=[theirs], authorized_client_keys=str(tmp_path / "authorized"),
            sftp_factory=True,
        )  # fmt: skip

    server = asyncio.run_coroutine_threadsafe(listen(), loop).result(30)

    async def close() -> None:
        server.close()
        await server.wait_closed()

    described = MachineHost(
        "127.0.0.1", str(key), theirs.export_public_key().decode(), directory=str(folder), port=server.get_port()
    )
    try:
        yield Host(described, folder, disk)
    finally:
        asyncio.run_coroutine_threadsafe(close(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
