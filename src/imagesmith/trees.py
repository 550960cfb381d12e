"""Folders that a build wrote: removed and searched whatever is in them.

A build can nest folders deeper than a Python function can recurse, and longer than a path may be. `shutil.rmtree`
and `os.walk` of Python 3.11 recurse once for each level: they end with RecursionError, also with `ignore_errors`.
`rm` and `find` keep their place by descriptors, and cross no mount here.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from imagesmith import processes

_log = logging.getLogger(__name__)
_SECONDS: Final = 600.0
_ERROR_BYTES: Final = 4096


class TreeNotRead(OSError):
    """A tree cannot be searched as a whole; the message names the first problem."""


def remove_tree(path: Path) -> bool:
    """Remove a folder with everything in it, or a file; returns whether it is gone.

    What cannot be removed is logged and left to the next clean-up: it must not stop a server or another build.
    """
    done = processes.run(
        ["rm", "--recursive", "--force", "--one-file-system", "--", str(path)], timeout=_SECONDS, limit=_ERROR_BYTES
    )
    if done.returncode != 0:
        _log.warning("%s cannot be removed: %s", path, done.tail(1) or done.ending)
    return done.returncode == 0


@contextmanager
def temporary_tree(*, prefix: str, folder: Path) -> Iterator[Path]:
    """A new folder in `folder`, removed at the end of the block."""
    made = Path(tempfile.mkdtemp(prefix=prefix, dir=folder))
    try:
        yield made
    finally:
        remove_tree(made)


def find_names(top: Path, pattern: str, *, limit: int) -> list[str]:
    """Paths below `top`, with a leading slash, whose last part matches a pattern of fnmatch; about `limit` bytes of
    them, sorted. Raises TreeNotRead."""
    done = processes.run(
        ["find", str(top), "-xdev", "-mindepth", "1", "-name", pattern, "-printf", "/%P\\0"],
        timeout=_SECONDS, limit=limit,
    )  # fmt: skip
    if done.returncode != 0:
        raise TreeNotRead(f"{top} cannot be searched: {done.tail(1) or done.ending}")
    found = done.stdout.decode(errors="surrogateescape").split("\0")[:-1]
    # the first one may have lost its beginning
    return sorted(found[1:] if len(done.stdout) >= limit else found)
