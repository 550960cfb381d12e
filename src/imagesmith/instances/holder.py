"""The program that holds the namespaces of a container, from its start to its end.

It is the image's own shell. An image without one gets the shell of the tools, with its loader and library, in a
folder of the sandbox's /dev: nothing of it is in the image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from imagesmith.instances.protocol import InstanceError
from imagesmith.instances.sandbox import HOLDER

_FOLDER: Final = "/dev/holder"
_SHELL: Final = Path("/bin/sh")
_LIBRARIES: Final = ("ld-linux", "ld-musl", "libc.so", "libc.musl", "libc-")


def image_holder() -> tuple[list[str], list[str]]:
    """Arguments of bubblewrap and the holder's words, for an image with a shell."""
    return [], [*HOLDER]


def lent_holder() -> tuple[list[str], list[str]]:
    """The same for an image without a shell. Raises InstanceError where the tools' shell needs other libraries."""
    libraries = _own_libraries()
    loader = next((name for name in libraries if name.startswith("ld-")), "")
    if not loader:
        raise InstanceError("the image has no /bin/sh, and this machine has none that can be lent to it")
    arguments = ["--dir", _FOLDER]
    for name, place in {"sh": _SHELL.resolve(), **libraries}.items():
        arguments += ["--ro-bind", str(place), f"{_FOLDER}/{name}"]
    _, *rest = HOLDER
    return arguments, [f"{_FOLDER}/{loader}", "--library-path", _FOLDER, f"{_FOLDER}/sh", *rest]


def _own_libraries() -> dict[str, Path]:
    """The loader and the C library that this process uses, by their names."""
    found: dict[str, Path] = {}
    for line in Path("/proc/self/maps").read_text(errors="replace").splitlines():
        place = Path(line.split(maxsplit=5)[-1])
        if place.is_absolute() and place.name.startswith(_LIBRARIES):
            found[place.name] = place
    return found
