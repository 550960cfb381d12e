"""Copies of files that are compared with their digests while the kernel makes them."""

from __future__ import annotations

import errno
import os
import shutil
from concurrent.futures import Executor
from pathlib import Path
from typing import Final

from imagesmith.artifacts.intact import digest_of_path
from imagesmith.artifacts.oci import digest_of
from imagesmith.backups.manifest import BackupError

_CHUNK: Final = 1024 * 1024
_NOT_HERE: Final = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ETXTBSY)
"""Errors of file systems between which the kernel does not copy."""


class DamagedContent(BackupError):
    """A file whose bytes do not have the digest of its name."""


def copy_checked(source: Path, target: Path, digest: str, pool: Executor) -> None:
    """Copy a file to a new one, and read it beside for its digest. Raises DamagedContent, OSError."""
    try:
        with source.open("rb") as file, target.open("xb") as copy:
            os.fchmod(copy.fileno(), 0o600)
            size = os.fstat(file.fileno()).st_size
            if size <= _CHUNK:
                data = file.read()
                found = digest_of(data)
                copy.write(data)
            else:
                # the kernel copies while another thread hashes: neither needs the bytes of the other
                hashing = pool.submit(digest_of_path, source)
                if not _kernel_copied(file.fileno(), copy.fileno(), size):
                    shutil.copyfileobj(file, copy, _CHUNK)
                found = hashing.result()
        if digest != found:
            raise DamagedContent(f"{source} is damaged: its bytes have the digest {found}, not {digest}")
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _kernel_copied(source: int, target: int, size: int) -> bool:
    """Whether the kernel copied the file, or made it share its blocks; False: nothing was copied."""
    done = 0
    while done < size:
        try:
            count = os.copy_file_range(source, target, size - done)
        except OSError as error:
            if done or error.errno not in _NOT_HERE:
                raise
            return False
        if count == 0:
            return done > 0
        done += count
    return True
