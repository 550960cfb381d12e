"""Takes inventories in a sealed process (namespaces/sealed_program.py): it reads the databases of an image.

Nothing can be imported there: what readers import when they first need it is imported here.
"""

from __future__ import annotations

import encodings.utf_8_sig  # noqa: F401
import os
import tarfile
from collections.abc import Mapping
from dataclasses import asdict, fields
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

from imagesmith.artifacts.rootfs import Root
from imagesmith.inspection.inventory import take_inventory
from imagesmith.inspection.licenses.names import spdx_ids
from imagesmith.inspection.packages import Package
from imagesmith.namespaces.sealed_program import SealedCall
from imagesmith.processes import Cancellation

spdx_ids()  # from files, which there are none of in a sealed process
_UNPACKED: Final = "/tmp/root"  # noqa: S108 - inside

PACKAGE_FIELDS: Final = tuple(field.name for field in fields(Package))
package_row: Final = attrgetter(*PACKAGE_FIELDS)
"""The values of a package in the order of its fields: dictionaries take longer to write and to read."""


class _CallerWaits(Cancellation):
    """Ends the work once nobody waits for it."""

    def __init__(self, call: SealedCall) -> None:
        super().__init__()
        self._call = call

    def check(self) -> None:
        self._call.check()


def carry_out(request: dict[str, Any], call: SealedCall) -> Mapping[str, Any]:
    """The inventory of the root that the first descriptor is, as a folder or, with "archive", as a tar file."""
    if request["archive"]:
        with os.fdopen(call.descriptors[0], "rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            archive.extractall(_UNPACKED, filter="data")
    with Root(Path(_UNPACKED) if request["archive"] else call.descriptors[0]) as root:
        found = take_inventory(root, _CallerWaits(call))
    return {
        "system": asdict(found.system),
        "packages": list(map(package_row, found.packages)),
        "problems": found.problems,
    }
