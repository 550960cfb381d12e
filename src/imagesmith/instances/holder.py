"""The program that holds the namespaces of a container, from its start to its end, as their first process.

It is the shell of the tools, with its loader and library, in a folder of the sandbox's /dev: nothing of it is in
the image. The image's own shell would be a program of the image that runs beside every command, in the network of
the container whatever the command's is, and also while the server works on the root.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from imagesmith.instances.protocol import InstanceError

_FOLDER: Final = "/dev/holder"
"""The spawner removes it before the first command (spawner_program.py)."""
_SHELL: Final = Path("/bin/sh")
_LIBRARIES: Final = ("ld-linux", "ld-musl", "libc.so", "libc.musl", "libc-")
_SCRIPT: Final = "echo; exec 3<&0; read _ <&3 & wait"
"""Reports that it runs, and ends with this process. `wait` reaps orphans, which `read` would not."""
_GUARDING: Final = "CAP_SETPCAP"
"""A right that no command has. The kernel lets a process be traced only by one that has all of its rights, and a
command that traces the holder would live on in it; bubblewrap's own first process has none."""


def lent_holder() -> tuple[list[str], list[str]]:
    """Arguments of bubblewrap, behind those of the view, and the holder's words.

    Raises InstanceError where the tools' shell cannot be lent.
    """
    libraries = _own_libraries()
    loader = next((name for name in libraries if name.startswith("ld-")), "")
    if not loader:
        raise InstanceError("containers cannot start: the Python of this machine uses no loader of glibc or musl")
    arguments = ["--as-pid-1", "--cap-add", _GUARDING, "--dir", _FOLDER]
    # the name of the loader is the one in lists of processes
    for name, file in {"sh": _SHELL.resolve(), "holder": libraries.pop(loader), **libraries}.items():
        arguments += ["--ro-bind", str(file), f"{_FOLDER}/{name}"]
    return arguments, [f"{_FOLDER}/holder", "--library-path", _FOLDER, f"{_FOLDER}/sh", "-c", _SCRIPT]


def _own_libraries() -> dict[str, Path]:
    """The loader and the C library that this process uses, by their names."""
    found: dict[str, Path] = {}
    for line in Path("/proc/self/maps").read_text(errors="replace").splitlines():
        library = Path(line.split(maxsplit=5)[-1])
        if library.is_absolute() and library.name.startswith(_LIBRARIES):
            found[library.name] = library
    return found
