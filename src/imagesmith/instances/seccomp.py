"""The system call filter of sandboxed commands: it refuses everything that reaches beyond the sandbox.

The capability list already forbids most of it; the filter also closes user namespaces (inside one, a process
would hold every capability again), sockets to the hypervisor and the host's kernel interfaces. Refused calls
fail with EPERM; `clone3` with ENOSYS, because its flags cannot be inspected and
libraries then fall back to `clone`.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import os
from functools import cache

_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000
_NEVER = -1
_CMP_EQ = 4
_CMP_MASKED_EQ = 7
_CLONE_NEWUSER = 0x10000000
_ARCHITECTURES = {"x86_64": (b"x86", b"x32"), "aarch64": (b"arm",)}
"""Smaller architectures that the same processor runs: the filter must cover them too."""

REFUSED = (
    "acct", "add_key", "bpf", "clock_adjtime", "clock_settime", "create_module", "delete_module",
    "fanotify_init", "finit_module", "fsconfig", "fsmount", "fsopen", "fspick", "get_kernel_syms", "init_module",
    "io_uring_enter", "io_uring_register", "io_uring_setup", "ioperm", "iopl", "kexec_file_load",
    "kexec_load", "keyctl", "lookup_dcookie", "mount", "mount_setattr", "move_mount", "move_pages",
    "nfsservctl", "open_by_handle_at", "open_tree", "perf_event_open", "pivot_root",
    "query_module", "quotactl", "quotactl_fd", "reboot",
    "request_key", "setdomainname", "sethostname", "setns", "settimeofday", "stime", "swapoff", "swapon",
    "sysfs", "_sysctl", "syslog", "umount", "umount2", "unshare", "uselib", "userfaultfd", "ustat", "vhangup",
    "vm86", "vm86old",
)  # fmt: skip

REFUSED_SOCKETS = {"AF_ALG": 38, "AF_VSOCK": 40, "AF_BLUETOOTH": 31, "AF_PACKET": 17}


class FilterError(OSError):
    """The filter cannot be built: libseccomp is missing or refuses a rule."""


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64),
    )  # fmt: skip


@cache
def filter_program() -> bytes:
    """The compiled filter in the form that bubblewrap reads."""
    library = _load()
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_ALLOW)))
    if not context.value:
        raise FilterError(errno.EINVAL, "seccomp_init failed")
    try:
        for name in _ARCHITECTURES.get(os.uname().machine, ()):
            library.seccomp_arch_add(context, ctypes.c_uint32(library.seccomp_arch_resolve_name(name)))
        _add_rules(library, context)
        return _export(library, context)
    finally:
        library.seccomp_release(context)


def _add_rules(library: ctypes.CDLL, context: ctypes.c_void_p) -> None:
    for name in REFUSED:
        _add(library, context, name, errno.EPERM)
    _add(library, context, "clone3", errno.ENOSYS)
    # The flags are clone's first argument on x86 and arm.
    _add(library, context, "clone", errno.EPERM, _Comparison(0, _CMP_MASKED_EQ, _CLONE_NEWUSER, _CLONE_NEWUSER))
    for family in REFUSED_SOCKETS.values():
        _add(library, context, "socket", errno.EPERM, _Comparison(0, _CMP_EQ, family, 0))


def _add(library: ctypes.CDLL, context: ctypes.c_void_p, name: str, code: int, *when: _Comparison) -> None:
    number = library.seccomp_syscall_resolve_name(name.encode())
    if number == _NEVER:  # libseccomp knows the calls of its kernels: an unknown name is not a call there
        return
    rules = (_Comparison * max(len(when), 1))(*when)
    result = library.seccomp_rule_add_array(
        context, ctypes.c_uint32(_ERRNO | code), ctypes.c_int(number), ctypes.c_uint(len(when)), rules
    )
    # Calls that only another of the architectures has are refused with EDOM or EINVAL when they take arguments.
    if result < 0 and when:
        raise FilterError(-result, f"seccomp rule for {name}: {os.strerror(-result)}")


def _export(library: ctypes.CDLL, context: ctypes.c_void_p) -> bytes:
    descriptor = os.memfd_create("seccomp")
    try:
        result = library.seccomp_export_bpf(context, ctypes.c_int(descriptor))
        if result < 0:
            raise FilterError(-result, f"seccomp_export_bpf: {os.strerror(-result)}")
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    finally:
        os.close(descriptor)


def _load() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    except OSError as error:
        raise FilterError(errno.ENOENT, "libseccomp.so.2 is missing: install the package libseccomp2") from error
    library.seccomp_init.restype = ctypes.c_void_p
    return library
