"""The arguments of bubblewrap, and its answers.

Arguments go through a descriptor (`bwrap --args`), so that no command inside sees them; the answer is a few JSON
documents on another.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagesmith.instances.protocol import InstanceError


@dataclass(frozen=True)
class Bind:
    """A folder or file of the host that the outer namespaces see at `target`."""

    source: Path
    target: str
    writable: bool = False


@dataclass(frozen=True)
class View:
    """Contents of the outer namespaces beside the tools."""

    binds: tuple[Bind, ...] = ()
    scratch: tuple[str, ...] = ()
    """Empty writable folders, in memory."""
    devices: tuple[str, ...] = ()
    """Device files of the host that remain usable."""


def memory_file(name: str, data: bytes) -> int:
    """A file in memory holding `data`, read from its start; the caller closes it."""
    descriptor = os.memfd_create(name)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def pack_arguments(arguments: Sequence[str]) -> bytes:
    """Arguments as `bwrap --args` reads them; not on the command line, where commands inside could see them.

    Raises InstanceError for an argument that contains a NUL: the rest would count as options of bubblewrap, and the
    author of an image controls its variables.
    """
    for argument in arguments:
        if "\0" in argument or not _encodes(argument):
            raise InstanceError(f"{argument[:80]!r} holds characters that no variable, path or argument can have")
    return b"".join(os.fsencode(argument) + b"\0" for argument in arguments)


def _encodes(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def read_documents(text: bytes) -> dict[str, Any]:
    """The members of all JSON documents in what bubblewrap wrote on its status pipe."""
    members: dict[str, Any] = {}
    rest = text.decode(errors="replace").lstrip()
    while rest:
        document, end = json.JSONDecoder().raw_decode(rest)
        members |= document
        rest = rest[end:].lstrip()
    return members


def outer_arguments(view: View, files: Sequence[int], info: int, *, lease: int = -1) -> list[str]:
    """The outer namespaces of a sandbox: the tools read-only, generated files, the view, and nothing else.

    `files` are the descriptors of resolv.conf and hosts, `info` is the file that names the first process, which
    keeps the `lease`: no program that it starts has it.
    No process here ends with its parent, see sandbox.py. The holder keeps its capabilities: it makes the namespaces
    of commands, which drop theirs.
    """
    arguments = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        path = Path("/", name)
        if path.is_symlink():
            arguments += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            arguments += ["--ro-bind", str(path), str(path)]
    resolver, hosts = files
    arguments += ["--dir", "/tmp", "--perms", "0644", "--file", str(resolver), "/etc/resolv.conf"]  # noqa: S108 - inside
    arguments += ["--perms", "0644", "--file", str(hosts), "/etc/hosts", "--proc", "/proc", "--dev", "/dev"]
    for folder in view.scratch:
        arguments += ["--tmpfs", folder]
    arguments += [word for device in view.devices for word in ("--dev-bind", device, device)]
    for bind in view.binds:
        arguments += ["--bind" if bind.writable else "--ro-bind", str(bind.source), bind.target]
    arguments += [
        "--remount-ro",
        "/",
        "--info-fd",
        str(info),
        "--unshare-pid",
        "--unshare-net",
    ]
    if lease >= 0:
        arguments += ["--sync-fd", str(lease)]
    arguments += ["--unshare-ipc", "--unshare-uts", "--hostname", "localhost", "--unshare-cgroup"]
    return [*arguments, "--cap-add", "ALL"]


def held_pipe(stack: ExitStack) -> tuple[int, int]:
    """A pipe whose ends the stack closes."""
    ends = os.pipe()
    for end in ends:
        stack.callback(os.close, end)
    return ends


def held_memory_file(stack: ExitStack, name: str, data: bytes) -> int:
    """A file in memory that the stack closes."""
    descriptor = memory_file(name, data)
    stack.callback(os.close, descriptor)
    return descriptor


def read_status(descriptor: int) -> dict[str, object]:
    """The output of bubblewrap on its status pipe; every other holder of the pipe ended with the command."""
    os.set_blocking(descriptor, False)
    text = b""
    with contextlib.suppress(BlockingIOError):
        while chunk := os.read(descriptor, 4096):
            text += chunk
    return read_documents(text)
