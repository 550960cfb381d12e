"""The files and rights of commands in a container; the view as arguments of bubblewrap.

Root inside is root outside as well, so files that are open to its user id must be covered by mounts: bubblewrap
leaves /proc/sys writable when root calls it, and through `kernel/core_pattern` there a container would own the
host.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from imagesmith.instances.bubblewrap import Bind

INSIDE = "/instance"
"""Path of the container's root in the outer namespaces of a sandbox."""

CAPABILITIES = {
    "CAP_CHOWN": 0, "CAP_DAC_OVERRIDE": 1, "CAP_FOWNER": 3, "CAP_FSETID": 4, "CAP_KILL": 5, "CAP_SETGID": 6,
    "CAP_SETUID": 7, "CAP_NET_BIND_SERVICE": 10, "CAP_SYS_CHROOT": 18, "CAP_SETFCAP": 31,
}  # fmt: skip
"""All rights of root inside beyond an ordinary user (docs/security.md), with the kernel's numbers."""

CAPABILITY_MASK = sum(1 << number for number in CAPABILITIES.values())

READ_ONLY = ("acpi", "asound", "dynamic_debug", "fs", "scsi", "sys")
"""Entries of /proc that configure the kernel without requiring a capability; bubblewrap itself closes bus, irq and
sysrq-trigger."""

MASKED = ("kcore", "keys", "latency_stats", "sched_debug", "timer_list", "timer_stats")
"""Files of /proc that describe the machine; they read as empty."""


def command_view(root: str, *, files: Sequence[tuple[str, str]]) -> list[str]:
    """The view that all commands of a container share; its root is at `root` in the outer namespaces, and `files`
    are files of the outer namespaces, and which of its own it sees them instead of."""
    arguments = ["--bind", root, "/", "--proc", "/proc", "--dev", "/dev"]
    # bubblewrap makes it 0755; on other systems it is writable by all
    arguments += ["--perms", "1777", "--tmpfs", "/dev/shm", "--mqueue", "/dev/mqueue"]  # noqa: S108 - inside
    for name in READ_ONLY:
        if Path("/proc", name).exists():
            arguments += ["--ro-bind", f"/proc/{name}", f"/proc/{name}"]
    for name in MASKED:
        if Path("/proc", name).exists():
            arguments += ["--ro-bind", "/dev/null", f"/proc/{name}"]
    for source, target in files:
        arguments += ["--ro-bind", source, target]
    arguments += ["--die-with-parent", "--cap-drop", "ALL"]
    return arguments + [word for capability in CAPABILITIES for word in ("--cap-add", capability)]


_PYTHON = Path(sys.executable).resolve()


def program_binds(source: Path, target: str) -> tuple[Bind, ...]:
    """Binds that a Python program of imagesmith needs in the outer namespaces beyond /usr: itself, and Python if
    installed elsewhere."""
    program = Bind(source, target)
    home = Path(sys.base_prefix).resolve()
    return (program,) if home.is_relative_to("/usr") else (program, Bind(home, str(home)))


def python_program(target: str) -> list[str]:
    """The command that runs such a program: isolated from the environment and from other folders."""
    return [str(_PYTHON), "-I", "-S", "-B", "-X", "utf8", target]
