"""The bytes of regular files, holes included."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Final

from imagesmith.copying.program.failures import CopyBudget

_SMALL: Final = 256 * 1024
_PIECE: Final = 64 * 1024 * 1024
_BLOCK: Final = 512
_NO_RANGES: Final = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF)


def copy_content(source: int, target: int, status: os.stat_result, budget: CopyBudget) -> None:
    """Copy a file up to the size that it had; one that is growing is not followed."""
    size = status.st_size
    if status.st_blocks * _BLOCK >= size:
        if size <= _SMALL:
            _copy_small(source, target, size, budget)
        else:
            _copy_range(source, target, 0, size, budget)
        return
    for start, end in _data_ranges(source, size):
        _copy_range(source, target, start, end, budget)
    os.ftruncate(target, size)


def write_all(target: int, data: bytes | memoryview, budget: CopyBudget) -> None:
    budget.wrote(len(data))
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]


def _copy_small(source: int, target: int, size: int, budget: CopyBudget) -> None:
    left = size
    while left > 0 and (data := os.read(source, left)):
        left -= len(data)
        write_all(target, data, budget)


def _copy_range(source: int, target: int, start: int, end: int, budget: CopyBudget) -> None:
    with_ranges = True
    os.lseek(target, start, os.SEEK_SET)
    while start < end:
        budget.check_time()
        count = min(end - start, _PIECE)
        if with_ranges:
            try:
                copied = os.copy_file_range(source, target, count, offset_src=start)
            except OSError as error:
                if error.errno not in _NO_RANGES:
                    raise
                with_ranges = False
                continue
        else:
            copied = os.sendfile(target, source, start, count)
        if copied == 0:
            return
        budget.wrote(copied)
        start += copied


def _data_ranges(source: int, size: int) -> Iterator[tuple[int, int]]:
    """The parts of a file that are no holes."""
    offset = 0
    while offset < size:
        try:
            start = os.lseek(source, offset, os.SEEK_DATA)
            end = min(os.lseek(source, start, os.SEEK_HOLE), size)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            if error.errno != errno.EINVAL:
                raise
            start, end = offset, size
        if start >= size:
            return
        yield start, end
        offset = end
