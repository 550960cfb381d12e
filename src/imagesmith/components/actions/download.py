"""WebDownload: fetched on the worker, checked, cached by digest, put into the instance (spec/components.md 10.9).

The worker fetches because small images have nothing to fetch with. A document must not gain the worker's place in
the network by that: addresses of the worker itself are refused unless the caller allows them.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import ipaddress
import os
import posixpath
import shutil
import socket
import ssl
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Final

from imagesmith.components.actions.assertions import InstanceProbe
from imagesmith.components.actions.base import (
    Action,
    ActionContext,
    ActionFailed,
    ActionResult,
    Entry,
    path_argument,
)
from imagesmith.components.actions.transfer import exists, put, scratch_folder
from imagesmith.components.schema import flag, inputs, text

MAX_TRIES: Final = 5
_TIMEOUT_SECONDS: Final = 60
_CHUNK: Final = 256 * 1024
_MAX_WAIT_SECONDS: Final = 30.0
_RETRIED: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_ALGORITHMS: Final = MappingProxyType({"MD5": "md5", "SHA1": "sha1", "SHA256": "sha256", "SHA512": "sha512"})
_CACHED: Final = frozenset({"sha256", "sha512"})
"""Digests that name one content only; a file in the cache is found by nothing else."""


class _TryAgain(Exception):
    """A failure that may pass."""


class _Refused(Exception):
    """A failure that will not pass."""


def actions() -> tuple[Action, ...]:
    return (
        Action(
            "WebDownload",
            "Downloads files over HTTP or HTTPS.",
            inputs(
                {
                    "source": text(
                        "The URL.",
                        minLength=1,
                        pattern=r"(?i)^https?://[^/\s]",
                        expected="an http:// or https:// URL",
                    ),
                    "destination": text("The file, or a folder when it ends with a separator.", minLength=1),
                    "overwrite": flag("Replace what is there; false makes that an error.", default=True),
                    "checksum": text("The expected digest in hexadecimal."),
                    "algorithm": text("Of the digest.", enum=list(_ALGORITHMS), ignore_case=True),
                    "ignoreCertificateErrors": flag("Do not check the server's certificate.", default=False),
                },
                required=("source", "destination"),
            ),
            web_download,
            shape="list",
            outputs=("destination",),
        ),
    )


def web_download(context: ActionContext, entries: list[Entry]) -> ActionResult:
    """Fetch each entry; the one output is all final paths, joined with newlines."""
    done: list[str] = []
    for entry in entries:
        try:
            done.append(_download(context, entry))
        except ActionFailed as failure:
            failure.outputs = ({"destination": "\n".join(done)},) if done else ()
            raise
    return ActionResult(({"destination": "\n".join(done)},))


def _download(context: ActionContext, entry: Entry) -> str:
    destination = _destination(entry)
    algorithm, checksum = _ALGORITHMS.get(entry.get("algorithm", "").upper(), ""), entry.get("checksum", "").lower()
    verified = bool(algorithm and checksum)
    if not verified and (algorithm or checksum):
        context.note("WebDownload: 'checksum' and 'algorithm' work together only, nothing is verified")
    if not entry["overwrite"] and exists(context, destination):
        raise ActionFailed(f"{destination} exists, and 'overwrite' is false")
    if verified and InstanceProbe(context).file_digest(destination, algorithm) == checksum:
        context.note(f"WebDownload: {destination} already has the expected checksum")
        return destination
    with scratch_folder(context) as folder:
        cached = _cache_place(context, algorithm, checksum) if verified else None
        if cached is not None and cached.is_file():
            put(context, cached, destination)
            return destination
        local = folder / "download"
        _fetch(context, entry, local)
        if verified:
            _verify(local, algorithm, checksum, entry["source"])
        put(context, local, destination)
        if cached is not None:
            _keep(local, cached)
    return destination


def _destination(entry: Entry) -> str:
    destination = path_argument(entry["destination"])
    if not destination.endswith("/"):
        return destination
    path = urllib.parse.urlsplit(entry["source"]).path
    name = urllib.parse.unquote(posixpath.basename(path))
    if not name or "/" in name or name in (".", "..") or "\0" in name:
        raise ActionFailed(
            f"the URL {_shown(entry['source'])} ends with no file name; name the file in 'destination'"
        )
    return destination + name


def _verify(local: Path, algorithm: str, checksum: str, source: str) -> None:
    with local.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if found != checksum:
        raise ActionFailed(f"{_shown(source)} has the {algorithm} checksum {found}, expected {checksum}")


def _cache_place(context: ActionContext, algorithm: str, checksum: str) -> Path | None:
    folder = context.services.download_cache
    if folder is None or algorithm not in _CACHED or not checksum.isalnum():
        return None
    return folder / f"{algorithm}-{checksum}"


def _keep(local: Path, cached: Path) -> None:
    """Move a verified file into the cache; two workers may do so at once, the last one wins with equal bytes."""
    cached.parent.mkdir(parents=True, exist_ok=True)
    partial = cached.with_name(f"{cached.name}.{os.getpid()}.part")
    shutil.copyfile(local, partial)
    partial.replace(cached)


def _fetch(context: ActionContext, entry: Entry, local: Path) -> None:
    """Download with retries; a try goes on where the last one broke off, when the server can say it is the same."""
    opener = _opener(context, insecure=entry["ignoreCertificateErrors"])
    transfer = _Transfer(context, opener, entry["source"], local)
    wait = context.services.retry_seconds
    for number in range(1, MAX_TRIES + 1):
        try:
            transfer.attempt()
            return
        except _Refused as refusal:
            raise ActionFailed(f"{_shown(entry['source'])}: {refusal}") from refusal
        except _TryAgain as trouble:
            if number == MAX_TRIES:
                raise ActionFailed(f"{_shown(entry['source'])}: {trouble}, {number} tries") from trouble
            context.note(f"WebDownload: try {number} of {MAX_TRIES} failed: {trouble}")
            context.cancellation.wait(min(wait, context.remaining() or wait))
            context.cancellation.check()
            context.remaining()
            wait = min(2 * wait, _MAX_WAIT_SECONDS)


@dataclass
class _Transfer:
    context: ActionContext
    opener: urllib.request.OpenerDirector
    source: str
    local: Path
    validator: str = ""
    """ETag or date of the content of which `local` holds the beginning."""

    def attempt(self) -> None:
        """Raises _TryAgain, _Refused."""
        have = self.local.stat().st_size if self.validator and self.local.exists() else 0
        try:
            with self.opener.open(self._request(have), timeout=_TIMEOUT_SECONDS) as answer:
                self._receive(answer, have)
        except urllib.error.HTTPError as error:
            error.close()
            self._answered(error.code, error.reason)
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise _Refused(f"the certificate is not valid: {error.reason.verify_message}") from error
            raise _TryAgain(str(error.reason)) from error
        except (http.client.HTTPException, OSError, TimeoutError) as error:
            raise _TryAgain(str(error) or type(error).__name__) from error

    def _request(self, have: int) -> urllib.request.Request:
        parts = urllib.parse.urlsplit(self.source)
        headers = {"User-Agent": "imagesmith", "Accept": "*/*", "Accept-Encoding": "identity"}
        if parts.username is not None:
            user = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
            headers["Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": self.validator}
        place = parts.netloc.rpartition("@")[2]
        url = parts._replace(netloc=place, fragment="").geturl()
        try:
            return urllib.request.Request(urllib.parse.quote(url, safe="%/:=&?~#+!$,;'@()*[]"), headers=headers)  # noqa: S310
        except ValueError as error:
            raise _Refused(str(error)) from error

    def _receive(self, answer: Any, have: int) -> None:
        if answer.status not in (200, 206) or (answer.status == 206 and not have):
            self._answered(answer.status, answer.reason)
        if answer.status == 200:
            have = 0
        etag = answer.headers.get("ETag", "")
        self.validator = etag if etag and not etag.startswith("W/") else answer.headers.get("Last-Modified", "")
        expected = answer.headers.get("Content-Length", "")
        with self.local.open("ab" if have else "wb") as file:
            self._copy(answer, file, have, int(expected) if expected.isdigit() else None)

    def _copy(self, answer: Any, file: IO[bytes], have: int, expected: int | None) -> None:
        received = 0
        while chunk := answer.read(_CHUNK):
            file.write(chunk)
            received += len(chunk)
            if have + received > self.context.services.download_bytes:
                raise _Refused(f"longer than {self.context.services.download_bytes} bytes")
            self.context.cancellation.check()
            self.context.remaining()
        if expected is not None and received < expected:
            raise _TryAgain(f"the connection ended after {received} of {expected} bytes")

    def _answered(self, status: int, reason: str) -> None:
        told = f"the server answered {status} {reason}"
        if status == 416:
            self.validator = ""  # what we have is not a beginning of what is there now
        if status in _RETRIED or status == 416:
            raise _TryAgain(told)
        raise _Refused(told)


def _opener(context: ActionContext, *, insecure: bool) -> urllib.request.OpenerDirector:
    """An opener for HTTP and HTTPS only, so that a redirect leads nowhere else."""
    tls = ssl.create_default_context()
    if insecure:
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    opener = urllib.request.OpenerDirector()
    proxies = dict(context.services.proxies)
    for handler in (
        urllib.request.ProxyHandler(proxies),
        urllib.request.UnknownHandler(),
        _Http(context, guarded="http" not in proxies),
        _Https(context, tls, guarded="https" not in proxies),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


class _Http(urllib.request.HTTPHandler):
    def __init__(self, context: ActionContext, *, guarded: bool) -> None:
        super().__init__()
        self._guarded = guarded and not context.services.loopback_downloads

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_GuardedHttp if self._guarded else http.client.HTTPConnection, request)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, context: ActionContext, tls: ssl.SSLContext, *, guarded: bool) -> None:
        super().__init__(context=tls)
        self._tls = tls
        self._guarded = guarded and not context.services.loopback_downloads

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        kind = _GuardedHttps if self._guarded else http.client.HTTPSConnection
        return self.do_open(kind, request, context=self._tls)


class _GuardedHttp(http.client.HTTPConnection):
    def connect(self) -> None:
        super().connect()
        _check_peer(self.sock)


class _GuardedHttps(http.client.HTTPSConnection):
    def connect(self) -> None:
        super().connect()
        _check_peer(self.sock)


def _check_peer(connection: socket.socket) -> None:
    """Raise _Refused for an address of the worker. The peer is asked, not its name: names can change in between."""
    address = ipaddress.ip_address(str(connection.getpeername()[0]).partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    real = mapped or address
    if real.is_loopback or real.is_link_local or real.is_unspecified:
        connection.close()
        raise _Refused(f"{real} is an address of the worker itself, which documents may not reach")


def _shown(source: str) -> str:
    """The URL as messages show it: without credentials and query, which may hold keys."""
    parts = urllib.parse.urlsplit(source)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
