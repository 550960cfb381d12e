"""Lists the entries of a blob with all that two layers can differ in, and reads such a list.

A line of JSON for each entry, in the order of the archive: [path as hexadecimal digits, attributes by their names].
The list is made in a sealed process (sealed_layers.py), and read as what a hostile one may have written.
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
_MOST_BYTES: Final = 1 << 29
"""Of all lines: whoever compares two layers has both lists in memory."""


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
        if lines.tell() > _MOST_BYTES:
            raise LayerError(f"the list of its files has more than {_MOST_BYTES} bytes")
    return count


def read_entries(lines: BinaryIO) -> dict[bytes, Mapping[str, str]]:
    """Path -> attributes of a list, from its beginning. Raises LayerError, OSError."""
    if os.fstat(lines.fileno()).st_size > _MOST_BYTES:
        raise LayerError(f"the list of its files has more than {_MOST_BYTES} bytes")
    lines.seek(0)
    found: dict[bytes, Mapping[str, str]] = {}
    for line in lines:
        try:
            path, attributes = json.loads(line)
            if not all(isinstance(word, str) for pair in attributes.items() for word in pair):
                raise TypeError("an attribute that is not a text")
            found[bytes.fromhex(path)] = attributes
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise LayerError(f"the list of its files is damaged: {error}") from error
        if len(found) > _MOST_ENTRIES:
            raise LayerError(f"the list of its files has more than {_MOST_ENTRIES} entries")
    return found


def _attributes(entry: LayerEntry, sha256: str) -> Mapping[str, str]:
    return {
        "kind": entry.kind.name.lower(), "mode": f"{entry.mode:04o}", "owner": f"{entry.uid}:{entry.gid}",
        "size": str(entry.size), "time": str(entry.mtime), "link": ascii(entry.link), "device": str(entry.device),
        "attributes": ascii(dict(entry.xattrs)), "sha256": sha256,
    }  # fmt: skip
