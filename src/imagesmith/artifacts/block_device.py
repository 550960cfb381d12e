"""Reads a qcow2 disk through its backing chain, without a mount and without a copy.

    qemu-nbd (read-only, ends with its one client) <-- Unix socket in a private folder --> BlockDevice.read

Uses only the NBD requests that reading needs: newstyle handshake, EXPORT_NAME, READ, DISC.
"""

from __future__ import annotations

import socket
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from imagesmith.artifacts.disks import DiskError
from imagesmith.background import Background
from imagesmith.retries import Failure, constant, retrying
from imagesmith.unix_sockets import short_address

_PROGRAM: Final = "qemu-nbd"
_NOT_FOUND: Final = 127
_START_SECONDS: Final = 20.0
_ANSWER_SECONDS: Final = 60.0
_END_SECONDS: Final = 2.0
_POLL_SECONDS: Final = 0.01
_LARGEST_REQUEST: Final = 4 * 1024 * 1024
_GREETING: Final = struct.Struct(">8s8sH")
_EXPORT: Final = struct.Struct(">QH")
_REQUEST: Final = struct.Struct(">IHHQQI")
_REPLY: Final = struct.Struct(">IIQ")
_REQUEST_MAGIC, _REPLY_MAGIC = 0x25609513, 0x67446698
_READ, _DISCONNECT = 0, 2
_EXPORT_NAME = 1
_FIXED_NEWSTYLE, _NO_ZEROES = 1, 2


class BlockDevice:
    """The bytes of a disk as a guest sees them; not safe for several threads."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.size = self._greet()

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset`. Raises DiskError beyond the end, or if the disk cannot be read."""
        if offset < 0 or length < 0 or offset + length > self.size:
            raise DiskError(f"bytes {offset} to {offset + length} are not on a disk of {self.size} bytes")
        if length <= _LARGEST_REQUEST:
            return bytes(self._read(offset, length))
        parts = range(offset, offset + length, _LARGEST_REQUEST)
        return b"".join(self._read(at, min(_LARGEST_REQUEST, offset + length - at)) for at in parts)

    def _read(self, offset: int, length: int) -> bytearray:
        self._socket.sendall(_REQUEST.pack(_REQUEST_MAGIC, 0, _READ, 1, offset, length))
        magic, error, _ = _REPLY.unpack(self._receive(_REPLY.size))
        if magic != _REPLY_MAGIC or error:
            raise DiskError(f"the disk cannot be read at {offset}: error {error} of {_PROGRAM}")
        return self._receive(length)

    def _greet(self) -> int:
        first, second, _ = _GREETING.unpack(self._receive(_GREETING.size))
        if (first, second) != (b"NBDMAGIC", b"IHAVEOPT"):
            raise DiskError(f"{_PROGRAM} sent an unknown greeting")
        self._socket.sendall(struct.pack(">I", _FIXED_NEWSTYLE | _NO_ZEROES))
        self._socket.sendall(struct.pack(">8sII", b"IHAVEOPT", _EXPORT_NAME, 0))
        size, _ = _EXPORT.unpack(self._receive(_EXPORT.size))
        return int(size)

    def _receive(self, length: int) -> bytearray:
        data = bytearray(length)
        view = memoryview(data)
        while view:
            try:
                count = self._socket.recv_into(view)
            except OSError as error:
                raise DiskError(f"{_PROGRAM} does not answer: {error}") from error
            if not count:
                raise DiskError(f"{_PROGRAM} ended while the disk was read")
            view = view[count:]
        return data

    def close(self) -> None:
        with suppress(OSError):
            self._socket.sendall(_REQUEST.pack(_REQUEST_MAGIC, 0, _DISCONNECT, 1, 0, 0))
        self._socket.close()


@contextmanager
def open_disk(disk: Path) -> Iterator[BlockDevice]:
    """Open a trusted qcow2 disk: QEMU follows the backing files that it names. Raises DiskError."""
    with (
        tempfile.TemporaryDirectory(prefix="imagesmith-nbd-") as folder,
        short_address(Path(folder) / "socket") as address,
    ):
        server = _NbdServer(disk, address)
        try:
            sock = server.connect()
            try:
                device = BlockDevice(sock)
            except DiskError:
                # It listens before it opens the disk.
                sock.close()
                raise server.failure() from None
            try:
                yield device
            finally:
                device.close()
        finally:
            server.close()


class _NbdServer:
    """One qemu-nbd: it ends when its client leaves, and with this process."""

    def __init__(self, disk: Path, address: str) -> None:
        self._disk = disk
        self._address = address
        argv = [_PROGRAM, "--read-only", "--format=qcow2", f"--socket={address}", str(disk)]
        self._program = Background(argv, name=_PROGRAM, limit=4096)

    def connect(self) -> socket.socket:
        def attempt() -> socket.socket:
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.connect(self._address)
            except OSError:
                sock.close()
                raise
            sock.settimeout(_ANSWER_SECONDS)
            return sock

        def is_starting(failed: Failure) -> bool:
            return isinstance(failed.error, OSError) and self._program.running

        try:
            return retrying(attempt, retry=is_starting, seconds=_START_SECONDS, backoff=constant(_POLL_SECONDS))
        except OSError as error:
            raise self.failure() from error

    def failure(self) -> DiskError:
        """The error of a failed read, with the program's last output."""
        self._program.wait(_END_SECONDS)
        completed, said = self._program.completed, str(self._program.failure or "")
        if completed is not None:
            missing = completed.returncode == _NOT_FOUND
            said = f"{_PROGRAM} is not installed; try: apt-get install qemu-utils" if missing else completed.tail(3)
        return DiskError(f"{self._disk} cannot be read: {said or f'{_PROGRAM} does not answer'}")

    def close(self) -> None:
        self._program.close()
