"""Folders for work in progress: each belongs to its writer until it ends, also after a kill.

    with draft_folder(drafts, lock=...) as folder:   a new folder, locked until the end
        ...write, then rename the result out of it
    remove_abandoned(drafts)                         removes what no process holds any more
    with fresh_draft_folder(drafts, lock=...)        both, for writers that come one at a time

The kernel releases the lock of a killed writer. A process id in the name would not do: ids are used again, and two
containers that share a data directory do not see each other's processes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from imagesmith.locks import file_lock, is_locked
from imagesmith.processes import Cancellation
from imagesmith.trees import remove_tree

_IN_USE = "in-use"
"""The file in a draft folder that its writer locks."""


@contextmanager
def draft_folder(drafts: Path, *, lock: Path, cancellation: Cancellation | None = None) -> Iterator[Path]:
    """A new folder below `drafts`, removed at the end; `lock` is the file that remove_abandoned's caller holds.

    Raises Cancelled.
    """
    with ExitStack() as stack:
        # or a clean-up could remove the folder before its own lock is held
        with file_lock(lock, cancellation=cancellation):
            folder = Path(tempfile.mkdtemp(dir=drafts)).absolute()
            stack.callback(remove_tree, folder)
            stack.enter_context(file_lock(folder / _IN_USE))
        yield folder


@contextmanager
def fresh_draft_folder(drafts: Path, *, lock: Path) -> Iterator[Path]:
    """A new folder below `drafts`, which is made if need be; folders that killed writers left there go first."""
    drafts.mkdir(mode=0o700, parents=True, exist_ok=True)
    with file_lock(lock):
        remove_abandoned(drafts)
    with draft_folder(drafts, lock=lock) as folder:
        yield folder


def remove_abandoned(drafts: Path) -> list[str]:
    """Remove the folders of writers that were killed, and stray files; returns their names.

    The caller holds the lock that draft_folder takes.
    """
    abandoned = [draft for draft in drafts.iterdir() if not is_locked(draft / _IN_USE)]
    for draft in abandoned:
        remove_tree(draft)
    return sorted(draft.name for draft in abandoned)
