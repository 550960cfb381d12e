"""Lists the entries of a blob with all that two layers can differ in; runs in a sealed process (sealed_layers.py).

A line of JSON for each entry, in the order of the archive: [path as hexadecimal digits, attributes by their names].
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from typing import BinaryIO, Final

from imagesmith.layers.compression import CountedFile, Decompressed, compression_of
from imagesmith.layers.entries import LayerEntry, LayerError
from imagesmith.layers.tar_reader import TarReader

_CHUNK: Final = 1 << 20
_MOST_ENTRIES: Final = 2_000_000


def list_entries(blob: BinaryIO, lines: BinaryIO, check: Callable[[], object]) -> int:
    """Write the entries of a blob to a file; returns their number. Raises LayerError, OSError."""
    reader, count = TarReader(Decompressed(CountedFile(blob), compression_of(os.pread(blob.fileno(), 4, 0)))), 0
    for item in reader:
        check()
        count += 1
        if count > _MOST_ENTRIES:
            raise LayerError(f"the layer has more than {_MOST_ENTRIES} entries")
        content = hashlib.sha256()
        while chunk := reader.content(_CHUNK):
            content.update(chunk)
        named = [b"/".join(item.components).hex(), _attributes(item.entry, content.hexdigest())]
        lines.write(json.dumps(named).encode() + b"\n")
    return count


def _attributes(entry: LayerEntry, sha256: str) -> Mapping[str, str]:
    return {
        "kind": entry.kind.name.lower(), "mode": f"{entry.mode:04o}", "owner": f"{entry.uid}:{entry.gid}",
        "size": str(entry.size), "time": str(entry.mtime), "link": ascii(entry.link), "device": str(entry.device),
        "attributes": ascii(dict(entry.xattrs)), "sha256": sha256,
    }  # fmt: skip
