"""Carries out COPY and ADD: a program in a sandbox of its own gets descriptors of the two roots and a request.

    FileCopier --start, on the first copy--> Sandbox: tools only, nothing of any image
       copy()  --request, target root, source root--> program/: resolves every path inside the two roots

The program sees no file of the host but the tools, and of the images only the two roots. One sandbox serves all
stages of a build; it has a network only once something is downloaded, the one that a RUN has.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from imagesmith.copying.request import (
    CopyFailed,
    CopyLimits,
    CopyRequest,
    CopyResult,
    CopySource,
    DownloadedFile,
    PathSource,
    TextSource,
    UrlSource,
)  # fmt: skip
from imagesmith.copying.running import CopyProgram, RootHandle
from imagesmith.instances.bubblewrap import View
from imagesmith.instances.command import NetworkKind
from imagesmith.instances.limits import ResourceLimits
from imagesmith.instances.sandbox import HOLDER, Sandbox
from imagesmith.instances.view import program_binds
from imagesmith.namespaces.build_namespace import BuildNamespace
from imagesmith.processes import Cancellation

_PROGRAM: Final = Path(__file__).with_name("program")
_PROGRAM_FOLDER: Final = "/programs/imagesmith/copying/program"
"""Path of the program in the sandbox."""
_AUTHORITIES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)
_GRACE_SECONDS: Final = 30.0
"""Longer than the program's own time limit, which names what took so long."""


class FileCopier:
    """Copies files for one build; close() ends its sandbox. Use it as a context manager."""

    def __init__(
        self, name: str, *, disk: Path, network: NetworkKind = "outbound", limits: ResourceLimits | None = None,
        namespace: BuildNamespace | None = None,
    ) -> None:  # fmt: skip
        """`name` is the sandbox's: `<run-time folder's name>-<build id>-files`, so a clean-up finds its groups.

        `disk` is the folder that holds the roots: see Sandbox.start. `namespace` is that of the roots; None: they
        are folders of this machine. Nothing is started before the first copy.
        """
        self.name = name
        self.disk = disk
        self.network: NetworkKind = network
        self.limits = limits or ResourceLimits()
        self._namespace = namespace
        self._sandbox: Sandbox | None = None
        self._program: CopyProgram | None = None

    def copy(
        self,
        request: CopyRequest,
        *,
        source: RootHandle | None,
        target: RootHandle,
        limits: CopyLimits | None = None,
        cancellation: Cancellation | None = None,
        timeout: float | None = None,
    ) -> CopyResult:
        """Carry out one instruction.

        `source` is the root of the stage or image that PathSource reads, `target` the root that is written, whose
        contents may be hostile; `source` is None where no source is a path. A failure leaves what was written so
        far: the caller drops the container. `timeout` (seconds) is what the build has left. Raises CopyFailed,
        InstanceError, Cancelled.
        """
        bounds = limits or CopyLimits()
        seconds = bounds.seconds if timeout is None else min(bounds.seconds, timeout)
        downloads = [number for number, item in enumerate(request.sources) if isinstance(item, UrlSource)]
        if downloads and self.network == "none":
            raise CopyFailed(
                "the network of this build is switched off, so nothing can be downloaded", downloads[0]
            )
        body = json.dumps(_document(request, bounds, seconds, with_authorities=bool(downloads))).encode()
        if cancellation is not None:
            cancellation.check()
        self.start("outbound" if downloads else "none").ready()
        assert self._program is not None
        try:
            answer = self._program.ask(
                body, source, target, seconds=seconds + _GRACE_SECONDS, cancellation=cancellation
            )
        except BaseException:
            self.close()  # and so whatever it still does
            raise
        if answer is None:
            raise CopyFailed(f"it was stopped after {seconds:.0f} s")
        return _result(answer)

    def start(self, network: NetworkKind = "none") -> Sandbox:
        """The sandbox, with at least this network; the first copy starts it too. Raises InstanceError.

        One that has ended by itself, for want of disk space, stays ended: copies fail with its reason.
        """
        known = self._sandbox
        if known is not None and known.alive and network == "outbound" != known.network:
            self.close()
        if self._sandbox is None:
            self._sandbox = Sandbox.start(
                self.name, view=View(program_binds(_PROGRAM, _PROGRAM_FOLDER)), holder=HOLDER,
                network=network, limits=self.limits, disk=self.disk, namespace=self._namespace,
            )  # fmt: skip
            self._program = CopyProgram.start(self._sandbox, f"{_PROGRAM_FOLDER}/start.py")
        return self._sandbox

    def close(self) -> None:
        """End the sandbox and everything in it."""
        sandbox, self._sandbox = self._sandbox, None
        program, self._program = self._program, None
        if sandbox is not None:
            sandbox.close()
        if program is not None:
            program.close()

    def __enter__(self) -> FileCopier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _result(answer: Mapping[str, Any]) -> CopyResult:
    if "failed" in answer:
        raise CopyFailed(answer["failed"], answer["source"])
    return CopyResult(
        answer["entries"],
        answer["size"],
        downloads=tuple(DownloadedFile(**item) for item in answer["downloads"]),
        unmatched=tuple(answer["unmatched"]),
    )


def _document(
    request: CopyRequest, limits: CopyLimits, seconds: float, *, with_authorities: bool
) -> dict[str, Any]:
    """The request as the program reads it. Raises CopyFailed."""
    for number, source in enumerate(request.sources):
        _check_text(_text_of(source), number)
    for text in (request.destination, request.folder, request.chown, request.chmod, *request.excludes):
        _check_text(text, None)
    return {
        "sources": [_source(source) for source in request.sources],
        "destination": request.destination,
        "folder": request.folder,
        "chown": request.chown,
        "chmod": request.chmod,
        "parents": request.parents,
        "link": request.link,
        "excludes": list(request.excludes),
        "unpack": bool(request.unpack),
        "limits": {
            "entries": limits.entries, "depth": limits.depth, "size": limits.size, "download": limits.download,
            "seconds": seconds,
        },
        "authorities": _authorities() if with_authorities else "",
    }  # fmt: skip


def _text_of(source: CopySource) -> str:
    if isinstance(source, PathSource):
        return source.pattern
    return source.name if isinstance(source, TextSource) else source.url


def _check_text(text: str, number: int | None) -> None:
    try:
        if "\0" not in text:
            os.fsencode(text)
            return
    except UnicodeEncodeError:
        pass
    raise CopyFailed(f"{text[:80]!r} holds characters that no path can have", number)


def _source(source: CopySource) -> dict[str, Any]:
    if isinstance(source, PathSource):
        return {"kind": "path", "pattern": source.pattern}
    if isinstance(source, TextSource):
        return {"kind": "text", "name": source.name, "content": base64.b64encode(source.content).decode()}
    return {"kind": "url", "url": source.url, "checksum": source.checksum}


def _authorities() -> str:
    """The certificates that this machine trusts; the sandbox has no file of them."""
    known = ssl.get_default_verify_paths().cafile
    for path in (known, *_AUTHORITIES):
        if path and Path(path).is_file():
            return Path(path).read_text(encoding="utf-8", errors="replace")
    return ""
