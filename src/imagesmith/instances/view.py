"""What commands in a container see and may do; the view as arguments of bubblewrap.

Root inside is root outside as well, so what only its user id opens must be closed by mounts: bubblewrap leaves
/proc/sys writable when root calls it, and through `kernel/core_pattern` there a container would own the host.
"""

from __future__ import annotations

from pathlib import Path

from imagesmith.instances.mountpoints import MOUNT_POINTS

INSIDE = "/instance"
"""Where the outer namespaces of a sandbox hold the container's root."""

CAPABILITIES = {
    "CAP_CHOWN": 0, "CAP_DAC_OVERRIDE": 1, "CAP_FOWNER": 3, "CAP_FSETID": 4, "CAP_KILL": 5, "CAP_SETGID": 6,
    "CAP_SETUID": 7, "CAP_NET_BIND_SERVICE": 10, "CAP_SYS_CHROOT": 18, "CAP_SETFCAP": 31,
}  # fmt: skip
"""Everything that root inside may do beyond an ordinary user (docs/security.md), with the kernel's numbers."""

CAPABILITY_MASK = sum(1 << number for number in CAPABILITIES.values())

READ_ONLY = ("acpi", "asound", "dynamic_debug", "fs", "scsi", "sys")
"""Entries of /proc that configure the kernel and ask for no capability; bubblewrap itself closes bus, irq and
sysrq-trigger."""

MASKED = ("kcore", "keys", "latency_stats", "sched_debug", "timer_list", "timer_stats")
"""Files of /proc that tell about the machine; they read as empty."""


def command_view(root: str) -> list[str]:
    """The view that all commands of a container share; its root is at `root` in the outer namespaces."""
    arguments = ["--bind", root, "/", "--proc", "/proc", "--dev", "/dev"]
    for name in READ_ONLY:
        if Path("/proc", name).exists():
            arguments += ["--ro-bind", f"/proc/{name}", f"/proc/{name}"]
    for name in MASKED:
        if Path("/proc", name).exists():
            arguments += ["--ro-bind", "/dev/null", f"/proc/{name}"]
    for path in MOUNT_POINTS:
        arguments += ["--ro-bind", path, path]
    arguments += ["--die-with-parent", "--cap-drop", "ALL"]
    return arguments + [word for capability in CAPABILITIES for word in ("--cap-add", capability)]
