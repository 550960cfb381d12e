"""Fetching a URL on the worker: retries, resumption, proxies, certificates (spec/components.md 10.9).

The worker fetches because small images have nothing to fetch with. A document must not gain the worker's place in
the network by that: addresses of the worker itself are refused unless the caller allows them.
"""

from __future__ import annotations

import base64
import http.client
import ipaddress
import socket
import ssl
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from imagesmith.components.actions.base import ActionContext, ActionFailed

MAX_TRIES: Final = 5
_TIMEOUT_SECONDS: Final = 60
_CHUNK: Final = 256 * 1024
_MAX_WAIT_SECONDS: Final = 30.0
_RETRIED: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


class _TryAgain(Exception):
    """A failure that may pass."""


class _Refused(Exception):
    """A failure that will not pass."""


def fetch(context: ActionContext, source: str, local: Path, *, insecure: bool) -> None:
    """Download with retries; a try goes on where the last one broke off, when the server can say it is the same.

    Raises ActionFailed, ActionTimedOut, Cancelled.
    """
    opener = _opener(context, insecure=insecure)
    transfer = _Transfer(context, opener, source, local)
    wait = context.services.retry_seconds
    for number in range(1, MAX_TRIES + 1):
        try:
            transfer.attempt()
            return
        except _Refused as refusal:
            raise ActionFailed(f"{shown_url(source)}: {refusal}") from refusal
        except _TryAgain as trouble:
            if number == MAX_TRIES:
                raise ActionFailed(f"{shown_url(source)}: {trouble}, {number} tries") from trouble
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


def shown_url(source: str) -> str:
    """The URL as messages show it: without credentials and query, which may hold keys."""
    parts = urllib.parse.urlsplit(source)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
