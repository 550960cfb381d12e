"""The containers of commands that need no server: `component run` and `dockerfile build`.

<data-dir>/authoring/               apart from the server's, so that neither cleans up the other's
  containers of a command           component-<process id>, component-<process id>-<role>
<data-dir>/bases, oci               shared with the server
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import ExitStack
from difflib import get_close_matches
from pathlib import Path
from typing import Final

from imagesmith.artifacts.bases import Bases, ParentError
from imagesmith.artifacts.layout import OciLayout
from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.cli.context import settings_of
from imagesmith.cli.rights import become_root
from imagesmith.instances.leftovers import remove_left_instances
from imagesmith.locks import visitor_lock
from imagesmith.managed.bases import managed_base, managed_bases
from imagesmith.processes import Cancellation
from imagesmith.settings import NoRegistry

OnLine = Callable[[str], None]

_OURS: Final = re.compile(r"component-([0-9]+)(?:-[a-z0-9-]+)?\Z")


def instance_name() -> str:
    """The name of this command's instance."""
    return f"component-{os.getpid()}"


def authoring_storage(stack: ExitStack, data_dir: Path) -> ContainerStorage:
    """The storage of such commands, in use until the stack ends; without the remains of killed ones.

    Call it before any thread exists. Raises CommandFailed.
    """
    become_root()
    storage = ContainerStorage.for_data_dir(data_dir / "authoring")

    def tidy() -> None:
        remove_left_instances(storage)

    alone = stack.enter_context(visitor_lock(data_dir / "authoring" / "containers.lock", alone=tidy))
    if not alone:
        # other processes make and mount containers: one without an owner may be theirs
        storage.remove_dead(_is_running)
    return storage


def authoring_image(
    data_dir: Path, storage: ContainerStorage, reference: str, *, on_line: OnLine, cancellation: Cancellation
) -> str:
    """The image of a managed base, a local layout or archive, or a registry reference. Raises ParentError."""
    bases = Bases(storage, OciLayout(data_dir / "oci"), folder=data_dir / "bases")
    base = managed_base(reference)
    if base is not None:
        return bases.managed(base, on_line=on_line, cancellation=cancellation).image_id
    names = [base.name for base in managed_bases() if base.kind == "container"]
    for meant in get_close_matches(reference, names, 1, 0.8):
        rule = "before the name of an image in a registry comes its host"
        raise ParentError(f"there is no managed base {reference}; did you mean {meant}? ({rule})")
    if reference.startswith(("oci:", "oci-archive:", "docker-archive:")):
        return bases.local(reference, [Path("/")], cancellation=cancellation).image_id
    try:
        source, registry = settings_of(data_dir).locate(reference)
    except NoRegistry as error:
        raise ParentError(f"the image {reference} cannot be obtained: {error}") from error
    return bases.registry(source, registry=registry, cancellation=cancellation).image_id


def _is_running(name: str) -> bool:
    """Whether the process in the name of a container still runs."""
    found = _OURS.match(name)
    return found is not None and Path("/proc", found[1]).exists()
