"""The entry of the program: takes requests one after the other, each carried out by a process of its own.

    main(CONTROL)   sequential packets, each with descriptors: request (JSON), result (a file, for JSON),
                    answers (a socket), target root and, if files are copied from one, source root
    result          {"entries", "size", "unmatched", "downloads"} or {"failed", "source"}
    answers  -->    "done", when the result is written; the end without it: the process died

The start of Python and its imports take longer than most copies, so they are done once.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import socket
import struct
import sys
import time
import traceback
from typing import Any, Final, NoReturn

from imagesmith.copying.program.failures import CopyBudget
from imagesmith.copying.program.instruction import CopyingInstruction, SourceFailed
from imagesmith.copying.program.roots import RootFolder

_KEPT: Final = {
    "CAP_CHOWN": 0, "CAP_DAC_OVERRIDE": 1, "CAP_FOWNER": 3, "CAP_FSETID": 4, "CAP_MKNOD": 27, "CAP_SETFCAP": 31,
}  # fmt: skip
"""The rights to write files as they were."""
_PR_SET_DUMPABLE: Final = 4
_PR_CAPBSET_DROP: Final = 24
_PR_SET_NO_NEW_PRIVS: Final = 38
_CAPABILITY_VERSION_3: Final = 0x20080522
_DATA_BYTES: Final = 1024 * 1024 * 1024
_RECURSION: Final = 20_000
_MOST_DESCRIPTORS: Final = 5


def main(arguments: list[str]) -> None:
    (control,) = (int(word) for word in arguments)
    os.umask(0)
    resource.setrlimit(resource.RLIMIT_DATA, (_DATA_BYTES, _DATA_BYTES))
    sys.setrecursionlimit(_RECURSION)
    drop_rights()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps them
    with socket.socket(fileno=control) as requests:
        requests.set_inheritable(False)
        while True:
            message, descriptors, _, _ = socket.recv_fds(requests, 16, _MOST_DESCRIPTORS)
            if not message:
                return
            if os.fork() == 0:
                requests.close()
                _serve(descriptors)
            for descriptor in descriptors:
                os.close(descriptor)


def _serve(descriptors: list[int]) -> NoReturn:
    """In a process of its own: carry out one request."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        request, result, answers, target, *source = descriptors
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        with open(request, "rb") as file:
            wanted = json.load(file)
        found = answer(wanted, RootFolder(source[0]) if source else None, RootFolder(target))
        with open(result, "w", encoding="utf-8", errors="backslashreplace") as file:
            json.dump(found, file)
        with socket.socket(fileno=answers) as peer:
            peer.send(b"done")
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def answer(request: dict[str, Any], source: RootFolder | None, target: RootFolder) -> dict[str, Any]:
    """Carry out a request."""
    limits = request["limits"]
    budget = CopyBudget(
        entries=limits["entries"], depth=limits["depth"], size=limits["size"], download=limits["download"],
        until=time.monotonic() + limits["seconds"],
    )  # fmt: skip
    try:
        outcome = CopyingInstruction(request, source, target, budget).carry_out()
    except SourceFailed as failed:
        return {"failed": str(failed), "source": failed.source}
    return {
        "entries": budget.made, "size": budget.written,
        "unmatched": outcome.unmatched, "downloads": outcome.downloads,
    }  # fmt: skip


def drop_rights() -> None:
    """Keep what writing files needs: what an image or a server sends is read with no more."""
    library = ctypes.CDLL(None, use_errno=True)
    library.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
    mask = sum(1 << number for number in _KEPT.values())
    with open("/proc/sys/kernel/cap_last_cap") as file:
        last = int(file.read())
    _check(library.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0))
    for number in range(last + 1):
        if not mask >> number & 1:
            _check(library.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0))
    _check(library.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    _check(library.capset(header, struct.pack("6I", low, low, low, high, high, high)))


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
