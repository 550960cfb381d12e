"""The rights that builds need: those of root, or of root in a user namespace of this process."""

from __future__ import annotations

import os

from imagesmith.cli.context import CommandFailed
from imagesmith.namespaces.own_namespace import enter_own_namespace


def become_root() -> None:
    """Have the rights of root, which builds need: those of the machine's, or in a user namespace of this process.

    Call it before any thread exists. Raises CommandFailed.
    """
    if os.geteuid() == 0:
        return
    try:
        enter_own_namespace()
    except OSError as error:
        raise CommandFailed(
            f"builds need root, or a user namespace: {error.strerror or error}",
            "run what it names, or run imagesmith as root; see: imagesmith doctor",
        ) from error
