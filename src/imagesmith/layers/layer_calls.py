"""Unpacks and writes layers in sealed processes: nothing of their bytes is read by this one.

    blob (an open file) and folders (mounts with the ids of a namespace of the call's own) --> sealed_layers.py

A process that was made to misbehave by a layer reaches that layer's folder, and reads those below it. What it
answers is checked (layer_answers.py).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, Final

from imagesmith.layers.compression import PackedLayer, pack_layer
from imagesmith.layers.entries import LayerError
from imagesmith.layers.layer_answers import ListedEntries, UnpackedBlob, checked, failure, verify_written
from imagesmith.layers.unpacker import UnpackLimits
from imagesmith.layers.writer import WriterSettings
from imagesmith.namespaces.id_maps import nested_ids
from imagesmith.namespaces.mount_trees import NO_DEVICES, READ_ONLY, clone_tree
from imagesmith.namespaces.sealed_answers import SealedCallFailed
from imagesmith.namespaces.sealed_calls import SealedProgram
from imagesmith.namespaces.user_namespace import UserNamespace
from imagesmith.processes import Cancellation

_MODULE: Final = "imagesmith.layers.sealed_layers"
_SECONDS: Final = 4 * 3600.0
"""For one layer to be written; the unpacker has a limit of its own."""
_GRACE_SECONDS: Final = 60.0


class LayerCalls:
    """Thread-safe. Its methods raise LayerError, OSError and Cancelled."""

    def __init__(self, program: SealedProgram | None = None, *, module: str = _MODULE) -> None:
        self.program = program or SealedProgram(module)
        self._module = module
        # only root of the machine makes device nodes: those of layers are left out elsewhere, their blobs keep them
        self._devices = nested_ids() is None

    def unpack(
        self, blob: Path, target: Path, *, lowers: Sequence[Path], limits: UnpackLimits,
        cancellation: Cancellation | None = None,
    ) -> UnpackedBlob:  # fmt: skip
        """Unpack a blob into an empty folder over the layers `lowers`, top first."""
        with _readable(blob) as file, self._folders(target, lowers, writable=True) as (namespace, trees):
            found = self._call(
                {"do": "unpack", "limits": asdict(limits), "devices": self._devices}, namespace,
                [file, *trees], limits.seconds + _GRACE_SECONDS, cancellation,
                serve=lambda question, given: _make_node(namespace, question, given),
            )  # fmt: skip
        return checked(UnpackedBlob, found)

    def pack(
        self, upper: Path, blob: BinaryIO, *, lowers: Sequence[Path], settings: WriterSettings,
        cancellation: Cancellation | None = None,
    ) -> PackedLayer:  # fmt: skip
        """Write the layer of an upper folder as a gzip blob. Nothing may run in it meanwhile."""
        if not any(upper.iterdir()):
            # most instructions write nothing, and there is nothing of the image to be read
            return pack_layer(upper, blob, lowers=tuple(lowers), settings=settings)
        with self._folders(upper, lowers, writable=settings.settle) as (namespace, trees):
            found = self._call(
                {"do": "pack", "settings": asdict(settings)}, namespace, [trees[0], blob.fileno(), *trees[1:]],
                _SECONDS, cancellation,
            )  # fmt: skip
        made = checked(PackedLayer, found)
        verify_written(made, blob, cancellation)
        return made

    def compress(
        self, archive: BinaryIO, blob: BinaryIO, *, cancellation: Cancellation | None = None
    ) -> PackedLayer:
        """Write the archive in a file of any compression as a gzip blob."""
        with self.program.used(), self.program.namespace() as namespace, _readable(archive.fileno()) as source:
            descriptors = [source, blob.fileno()]
            found = self._call({"do": "compress"}, namespace, descriptors, _SECONDS, cancellation)
        made = checked(PackedLayer, found)
        verify_written(made, blob, cancellation)
        return made

    def list_entries(self, blob: BinaryIO, lines: BinaryIO, *, cancellation: Cancellation | None = None) -> int:
        """Write the entries of a blob to a file, as layer_listing.py says; returns their number."""
        with self.program.used(), self.program.namespace() as namespace, _readable(blob.fileno()) as source:
            descriptors = [source, lines.fileno()]
            found = self._call({"do": "list"}, namespace, descriptors, _SECONDS, cancellation)
        return checked(ListedEntries, found).entries

    @contextmanager
    def _folders(
        self, first: Path, lowers: Sequence[Path], *, writable: bool
    ) -> Iterator[tuple[UserNamespace, list[int]]]:
        """A namespace, and folders with its ids; only the first can be written."""
        with ExitStack() as stack:
            stack.enter_context(self.program.used())
            namespace = stack.enter_context(self.program.namespace())
            trees = []
            for folder in (first, *lowers):
                wanted = NO_DEVICES if writable and folder is first else NO_DEVICES | READ_ONLY
                trees.append(clone_tree(folder, wanted, namespace=namespace.files))
                stack.callback(os.close, trees[-1])
            yield namespace, trees

    def _call(
        self, request: Mapping[str, Any], namespace: UserNamespace, descriptors: Sequence[int], seconds: float,
        cancellation: Cancellation | None,
        serve: Callable[[Mapping[str, Any], Sequence[int]], None] | None = None,
    ) -> Any:  # fmt: skip
        try:
            found = self.program.call(
                self._module, request, namespace, descriptors, seconds=seconds, cancellation=cancellation,
                serve=serve,
            )  # fmt: skip
        except SealedCallFailed as error:
            raise failure(error) from error
        if isinstance(found, dict) and "refused" in found:
            raise LayerError(str(found["refused"]))
        return found


@contextmanager
def _readable(file: Path | int) -> Iterator[int]:
    """A descriptor of a file, from its beginning, that nobody can open again to write.

    The process of an ordinary user's server is the owner of the file: of a blob that other images share.
    """
    tree = clone_tree(file, NO_DEVICES | READ_ONLY)
    try:
        with Path(f"/proc/self/fd/{tree}").open("rb") as again:
            yield again.fileno()
    finally:
        os.close(tree)


def _make_node(namespace: UserNamespace, question: Mapping[str, Any], given: Sequence[int]) -> None:
    """Make a device node in a folder that the call has open, where no device opens. Raises OSError, ValueError."""
    name, mode, device = bytes.fromhex(str(question["node"])), int(question["mode"]), int(question["device"])
    wanted = stat.S_IFMT(mode) in (stat.S_IFCHR, stat.S_IFBLK) and b"/" not in name and len(given) == 1
    if not wanted:
        raise PermissionError(errno.EPERM, "no such device is made")
    with namespace.host_ids.acting():
        os.mknod(name, mode & ~0o7777, device, dir_fd=given[0])
