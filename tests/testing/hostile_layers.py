"""What answers instead of imagesmith.layers.sealed_layers once a layer has taken that process over: the layer.

It says what to do, as JSON: the blob that is unpacked, the archive that is compressed, or the file `answer` of an
upper folder. What is written is always the same blob.
"""

from __future__ import annotations

import json
import os
from typing import Any

from imagesmith.namespaces.sealed_program import SealedCall

BLOB = b"blob"


def carry_out(request: dict[str, Any], call: SealedCall) -> Any:
    """{"errno": number}: fail; {"write": true}: open the first descriptor for writing; else: the answer."""
    first = call.descriptors[0]
    source = os.open("answer", os.O_RDONLY, dir_fd=first) if request["do"] == "pack" else first
    wanted = json.loads(os.read(source, 1 << 20))
    if request["do"] in ("pack", "compress"):
        os.write(call.descriptors[1], BLOB)
    if isinstance(wanted, dict) and "errno" in wanted:
        raise OSError(wanted["errno"], os.strerror(wanted["errno"]))
    if isinstance(wanted, dict) and "write" in wanted:
        return os.open(f"/proc/self/fd/{first}", os.O_WRONLY)
    return wanted
