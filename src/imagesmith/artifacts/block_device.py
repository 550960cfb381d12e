"""Reading a qcow2 disk, with everything it is an overlay of, without a mount and without a copy of it.

    qemu-nbd (read-only, ends with its one client) <-- Unix socket in a private folder --> BlockDevice.read

Only the few requests of the NBD protocol that reading takes: newstyle handshake, EXPORT_NAME, READ, DISC.
"""

from __future__ import annotations

import socket
import struct
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from imagesmith import processes
from imagesmith.artifacts.disks import DiskError
from imagesmith.processes import Cancellation, Cancelled, Completed

_PROGRAM: Final = "qemu-nbd"
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
        """`length` bytes from `offset`. Raises DiskError beyond the end, or when the disk cannot be read."""
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
            raise DiskError(f"{_PROGRAM} greets in a way that is not known")
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
    """Read a qcow2 disk of ours: QEMU follows the backing files that it names. Raises DiskError."""
    with tempfile.TemporaryDirectory(prefix="imagesmith-nbd-") as folder:
        server = _Server(disk, Path(folder) / "socket")
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


class _Server:
    """One qemu-nbd: it ends when its client leaves, and with this process."""

    def __init__(self, disk: Path, place: Path) -> None:
        self._disk = disk
        self._place = place
        self._cancellation = Cancellation()
        self._completed: Completed | None = None
        self._failure = ""
        self._thread = threading.Thread(target=self._live, name="qemu-nbd", daemon=True)
        self._thread.start()

    def connect(self) -> socket.socket:
        until = time.monotonic() + _START_SECONDS
        while time.monotonic() < until and self._thread.is_alive():
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.connect(str(self._place))
            except OSError:
                sock.close()
                time.sleep(_POLL_SECONDS)
            else:
                sock.settimeout(_ANSWER_SECONDS)
                return sock
        raise self.failure()

    def failure(self) -> DiskError:
        """Why there is nothing to read, in the program's own words."""
        self._thread.join(_END_SECONDS)
        said = self._completed.tail(3) if self._completed is not None else self._failure
        return DiskError(f"{self._disk} cannot be read: {said or f'{_PROGRAM} does not answer'}")

    def close(self) -> None:
        self._cancellation.cancel()
        self._thread.join()

    def _live(self) -> None:
        argv = [_PROGRAM, "--read-only", "--format=qcow2", f"--socket={self._place}", str(self._disk)]
        try:
            self._completed = processes.run(argv, cancellation=self._cancellation, limit=4096)
        except FileNotFoundError:
            self._failure = f"{_PROGRAM} is not installed; try: apt-get install qemu-utils"
        except OSError as error:
            self._failure = str(error)
        except Cancelled:
            pass
