"""File transfer between worker and instance: a private scratch folder, and putting files into the instance."""

from __future__ import annotations

import posixpath
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from imagesmith.components.actions.base import ActionContext, TypedInputs, parent_of, run_program, shell

_TRANSFERS: Final = frozenset({"WebDownload", "S3Download", "S3Upload"})


def uses_network(action: str, entries: Sequence[TypedInputs]) -> bool:
    """Whether the worker transfers files over the network for an action with these inputs."""
    read = (str(entry.get("document", "")) for entry in entries)
    return action in _TRANSFERS or any(document.startswith("s3://") for document in read)


@contextmanager
def scratch_folder(context: ActionContext) -> Iterator[Path]:
    """A temporary folder of the worker."""
    with tempfile.TemporaryDirectory(prefix="imagesmith-", dir=context.services.scratch) as name:
        yield Path(name)


def exists(context: ActionContext, path: str) -> bool:
    script = '[ -e "$1" ] || [ -L "$1" ]'
    return run_program(context, ("sh", "-c", script, "sh", path), quiet=True).returncode == 0


def absolute(context: ActionContext, path: str) -> str:
    """The path in the form of the instance's file operations."""
    return posixpath.join(context.working_directory or "", path)


def put(context: ActionContext, local: Path, destination: str) -> None:
    """Put a file of the worker into the instance atomically, and create its folders."""
    partial = f"{destination}.imagesmith-part"
    shell(context, _PREPARE, destination, parent_of(destination), partial)
    try:
        context.instance.push(local, absolute(context, partial))
        shell(context, 'chmod 0644 "$2" && mv -f "$2" "$1"', destination, partial)
    except BaseException:
        run_program(context, ("rm", "-f", partial), quiet=True)
        raise


_PREPARE: Final = r"""
[ -d "$1" ] && fail "$1: is a folder"
mkdir -p "$2" && rm -f "$3"
"""
