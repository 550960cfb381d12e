"""The network of a sandbox: out to the mirror and the registries, never to the host.

`slirp4netns` carries connections of a network namespace through a process outside, so the namespace needs no
bridge and no firewall rules of the machine. Forbidden addresses are blocked twice: slirp4netns offers no way to
the host's loopback, and prohibiting routes inside the namespace (which a sandboxed command has no capability
to change) cover the host's own addresses and the link-local range with its metadata services.
"""

from __future__ import annotations

import ctypes
import ipaddress
import os
import socket
import stat
import subprocess
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from imagesmith import processes
from imagesmith.instances.command import NetworkKind
from imagesmith.instances.orphans import tool_environment
from imagesmith.namespaces.build_namespace import BuildNamespace, ViewMount
from imagesmith.namespaces.entering import entering
from imagesmith.namespaces.id_maps import ID_TABLE
from imagesmith.streams import wait_readable

NAMESERVER = "10.0.2.3"
"""slirp4netns answers here and forwards to the host's name servers."""

_READY_SECONDS = 10.0
_TUNNEL = Path("/dev/net/tun")
_OPEN_TUNNEL = ID_TABLE.with_name("tun")
# "$0" is the device file of the machine, "$1" the one in its place; the rest is executed.
_BIND = 'mount --bind "$1" "$0" && shift && exec "$@"'
_CLONE_NEWNET = 0x40000000
_LINK_LOCAL = "169.254.0.0/16"


class NetworkError(RuntimeError):
    """The network of a sandbox could not be set up; the text says why."""


@dataclass(frozen=True)
class Slirp:
    """A running slirp4netns; it reports on the pipe `ready` that the interface is up, and ends when no process
    holds `alive`, so with this process (it drops a parent-death signal while it starts)."""

    process: subprocess.Popen[bytes]
    ready: int
    alive: int

    def wait(self) -> None:
        """Wait until the interface is up; call once. Raises NetworkError."""
        try:
            readable = wait_readable(self.ready, _READY_SECONDS)
            if readable and os.read(self.ready, 1) == b"1":
                return
        finally:
            os.close(self.ready)
        reason = tunnel_fault() or "try running it by hand, or network='none'"
        raise NetworkError(f"slirp4netns gave the sandbox no network: {reason}")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.alive)


def tunnel_fault() -> str:
    """Why slirp4netns cannot work for this user, with the command that helps; empty if nothing is known."""
    if os.access(_TUNNEL, os.R_OK | os.W_OK):
        return ""
    if not _TUNNEL.exists():
        return f"{_TUNNEL} is missing: as root, `modprobe tun`"
    return f"this user cannot open {_TUNNEL}: as root, `chmod 0666 {_TUNNEL}`"


def start_slirp(network: int, namespace: BuildNamespace | None) -> Slirp:
    """Attach slirp4netns to a network namespace (a descriptor) that belongs to a user namespace.

    It is root of that namespace only, and lays down all rights but that to low ports, sees an empty root with the
    machine's /etc and /run, and has a filter of system calls, before it carries a packet. Raises OSError.
    """
    ready, write = os.pipe()
    end, alive = os.pipe()
    with ExitStack() as stack:
        stack.callback(os.close, write)
        stack.callback(os.close, end)
        failed = stack.enter_context(ExitStack())
        failed.callback(os.close, ready)
        failed.callback(os.close, alive)
        entry, descriptors = _slirp_entry(namespace, stack)
        process = processes.start(
            [*entry, "slirp4netns", "--configure", "--mtu=65520", "--disable-host-loopback", "--enable-sandbox",
             "--enable-seccomp", f"--ready-fd={write}", f"--exit-fd={end}", "--netns-type=path",
             f"/proc/self/fd/{network}", "tap0"],
            env=processes.host_environment(tool_environment()), pass_fds=(write, end, network, *descriptors),
        )  # fmt: skip
        failed.pop_all()
    return Slirp(process, ready, alive)


def _slirp_entry(namespace: BuildNamespace | None, stack: ExitStack) -> tuple[list[str], list[int]]:
    """How a program enters the user namespace, and the descriptors that it needs for that."""
    if namespace is None:
        return [], []
    user, descriptors = f"/proc/self/fd/{namespace.descriptor}", [namespace.descriptor]
    if not namespace.host_ids.first or _TUNNEL.stat().st_mode & 0o006 == 0o006:
        return [*entering(user=user)], descriptors
    view = namespace.view([ViewMount(_open_tunnel(), writable=False, device=True)])
    stack.callback(os.close, view.descriptor)
    entry = entering(user=user, mount=f"/proc/self/fd/{view.descriptor}")
    return [*entry, "sh", "-c", _BIND, str(_TUNNEL), str(view.paths[0])], [*descriptors, view.descriptor]


def _open_tunnel() -> Path:
    """A device node of the tunnel that every user may open, in a folder that only root may enter.

    Debian's own is like that; that of a container or another system may be root's. Raises OSError.
    """
    node = _OPEN_TUNNEL
    if not node.exists():
        draft = node.with_name(f"{node.name}-{os.getpid()}-{threading.get_ident()}")
        node.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.mknod(draft, stat.S_IFCHR | 0o600, _TUNNEL.stat().st_rdev)
        draft.chmod(0o666)
        draft.rename(node)
    return node


def prohibit_host(namespace: Path, *, routing_table: Path = Path("/proc/net/fib_trie")) -> None:
    """Close the routes from a namespace to this machine's own addresses. Raises ProcessFailed."""
    refused = [_LINK_LOCAL, *host_addresses(routing_table.read_text())]
    lines = "".join(f"route replace prohibit {address}\n" for address in refused)
    processes.check(
        [*entering(net=namespace), "ip", "-batch", "-"],
        what="closing the sandbox's routes to the host", input=lines.encode(), timeout=30,
    )  # fmt: skip


def host_addresses(fib_trie: str) -> Sequence[str]:
    """This machine's own IPv4 addresses other than loopback, from the kernel's routing tree."""
    found: set[str] = set()
    address = ""
    for line in fib_trie.splitlines():
        words = line.split()
        if words[:1] == ["|--"]:
            address = words[1]
        elif words[:3] == ["/32", "host", "LOCAL"] and not ipaddress.ip_address(address).is_loopback:
            found.add(address)
    return sorted(found)


def connect_inside(namespace: Path, port: int, *, timeout: float) -> socket.socket:
    """A connection to a port on the loopback of a network namespace. Raises OSError."""
    return _inside(namespace, lambda: socket.create_connection(("127.0.0.1", port), timeout))


def listen_inside(namespace: Path, address: str, port: int) -> socket.socket:
    """A socket that listens in a network namespace, on an address that it has. Raises OSError."""
    return _inside(namespace, lambda: socket.create_server((address, port)))


def _inside(namespace: Path, make: Callable[[], socket.socket]) -> socket.socket:
    def enter() -> socket.socket:
        descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            library = ctypes.CDLL(None, use_errno=True)
            if library.setns(descriptor, _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns", str(namespace))
        finally:
            os.close(descriptor)
        return make()

    # A namespace belongs to a thread: this thread enters it and ends, the socket remains in it.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(enter).result()


def resolver_text(kind: NetworkKind) -> str:
    return f"nameserver {NAMESERVER}\n" if kind == "outbound" else ""


def hosts_text(hostname: str) -> str:
    return f"127.0.0.1\tlocalhost\n127.0.1.1\t{hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n"
