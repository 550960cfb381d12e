"""What is done with the bytes of layers in a sealed process (namespaces/sealed_program.py); see layer_calls.py.

unpack     blob, target folder, folders of the layers below, top first
pack       upper folder, file of the blob, folders of the layers below
compress   archive of any compression, file of the blob
list       blob, file of the lines
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, BinaryIO, cast

from imagesmith.layers.compression import CountedFile, Decompressed, compression_of, pack_archive, pack_layer
from imagesmith.layers.entries import LayerError
from imagesmith.layers.layer_listing import list_entries
from imagesmith.layers.unpacker import UnpackLimits, unpack_layer
from imagesmith.layers.writer import WriterSettings
from imagesmith.namespaces.sealed_program import SealedCall


def carry_out(request: dict[str, Any], call: SealedCall) -> Mapping[str, Any]:
    """The answer to one request; {"refused": words} stands for a LayerError."""
    try:
        return _CALLS[request["do"]](request, call)
    except LayerError as error:
        return {"refused": str(error)}


def _unpack(request: dict[str, Any], call: SealedCall) -> Mapping[str, Any]:
    blob, target, *lowers = call.descriptors

    def make_node(name: bytes, mode: int, device: int, parent: int) -> None:
        call.ask({"node": name.hex(), "mode": mode, "device": device}, [parent])

    with _opened(blob, "rb") as file:
        counted = CountedFile(file)
        compression = compression_of(os.pread(blob, 4, 0))
        archive = Decompressed(counted, compression)
        made = unpack_layer(
            archive, target, lowers=lowers, limits=UnpackLimits(**request["limits"]),
            make_node=make_node if request["devices"] else None, consumed=lambda: counted.count, check=call.check,
        )  # fmt: skip
        while counted.read(1 << 20):
            call.check()
    return {"entries": made.entries, "size": made.size, "digest": counted.digest, "diff_id": archive.diff_id}


def _pack(request: dict[str, Any], call: SealedCall) -> Mapping[str, Any]:
    upper, blob, *lowers = call.descriptors
    with _opened(blob, "wb") as file:
        settings = WriterSettings(**request["settings"])
        return asdict(pack_layer(upper, file, lowers=tuple(lowers), settings=settings, check=call.check))


def _compress(_request: dict[str, Any], call: SealedCall) -> Mapping[str, Any]:
    archive, blob = call.descriptors
    with _opened(archive, "rb") as source, _opened(blob, "wb") as file:
        return asdict(pack_archive(source, file, check=call.check))


def _list(_request: dict[str, Any], call: SealedCall) -> Mapping[str, Any]:
    blob, lines = call.descriptors
    with _opened(blob, "rb") as source, _opened(lines, "wb") as file:
        return {"entries": list_entries(source, file, call.check)}


def _opened(descriptor: int, mode: str) -> BinaryIO:
    return cast(BinaryIO, os.fdopen(descriptor, mode))


_CALLS: dict[str, Callable[[dict[str, Any], SealedCall], Mapping[str, Any]]] = {
    "unpack": _unpack, "pack": _pack, "compress": _compress, "list": _list,
}  # fmt: skip
