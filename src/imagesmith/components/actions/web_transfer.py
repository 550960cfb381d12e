"""Fetching a URL on the worker: retries, resumption, proxies, certificates (spec/components.md 10.9).

The worker fetches because small images have no program for it. A document must not gain the worker's network access
by that: addresses of the worker itself are refused unless the caller allows them (public_address.py).
"""

from __future__ import annotations

import base64
import http.client
import socket
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from imagesmith.components.actions.base import ActionContext, ActionFailed
from imagesmith.components.actions.public_address import AddressRefused, connect, resolve
from imagesmith.retries import Backoff, Failure, retrying

MAX_TRIES: Final = 5
_TIMEOUT_SECONDS: Final = 60
_CHUNK: Final = 256 * 1024
_MAX_WAIT_SECONDS: Final = 30.0
_RETRIED: Final = frozenset({408, 425, 429, 500, 502, 503, 504})


class _TryAgain(Exception):
    """A temporary failure."""


class _PermanentFailure(Exception):
    """A permanent failure."""


def fetch(context: ActionContext, source: str, local: Path, *, insecure: bool) -> None:
    """Download with retries; a try resumes the last one if the server confirms that the content is the same.

    Raises ActionFailed, ActionTimedOut, Cancelled.
    """
    opener = _opener(context, insecure=insecure)
    transfer = _Transfer(context, opener, source, local)

    def note(failure: Failure, _pause: float) -> None:
        context.note(f"WebDownload: try {failure.attempt} of {MAX_TRIES} failed: {failure.error}")

    def rest(seconds: float) -> None:
        context.cancellation.wait(min(seconds, context.remaining() or seconds))
        context.cancellation.check()
        context.remaining()

    try:
        retrying(
            transfer.attempt, retry=lambda failure: isinstance(failure.error, _TryAgain), attempts=MAX_TRIES,
            backoff=Backoff(context.services.retry_seconds, _MAX_WAIT_SECONDS), before_retry=note, sleep=rest,
        )  # fmt: skip
    except _PermanentFailure as refusal:
        raise ActionFailed(f"{printable_url(source)}: {refusal}") from refusal
    except _TryAgain as trouble:
        raise ActionFailed(f"{printable_url(source)}: {trouble}, {MAX_TRIES} tries") from trouble


@dataclass
class _Transfer:
    """One download, which continues where an earlier attempt stopped."""

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
            if isinstance(error.reason, AddressRefused):
                raise _PermanentFailure(str(error.reason)) from error
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise _PermanentFailure(f"the certificate is not valid: {error.reason.verify_message}") from error
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
        netloc = parts.netloc.rpartition("@")[2]
        url = parts._replace(netloc=netloc, fragment="").geturl()
        try:
            return urllib.request.Request(urllib.parse.quote(url, safe="%/:=&?~#+!$,;'@()*[]"), headers=headers)  # noqa: S310
        except ValueError as error:
            raise _PermanentFailure(str(error)) from error

    def _receive(self, answer: Any, have: int) -> None:
        if answer.status not in (200, 206) or (answer.status == 206 and not have):
            self._answered(answer.status, answer.reason)
        if answer.status == 200:
            have = 0
        etag = answer.headers.get("ETag", "")
        self.validator = etag if etag and not etag.startswith("W/") else answer.headers.get("Last-Modified", "")
        expected = answer.headers.get("Content-Length", "")
        with self.local.open("ab" if have else "wb") as file:
            self._copy(answer, file, have, int(expected) if expected.isascii() and expected.isdigit() else None)

    def _copy(self, answer: Any, file: IO[bytes], have: int, expected: int | None) -> None:
        received = 0
        while chunk := answer.read(_CHUNK):
            file.write(chunk)
            received += len(chunk)
            if have + received > self.context.services.download_bytes:
                raise _PermanentFailure(f"longer than {self.context.services.download_bytes} bytes")
            self.context.cancellation.check()
            self.context.remaining()
        if expected is not None and received < expected:
            raise _TryAgain(f"the connection ended after {received} of {expected} bytes")

    def _answered(self, status: int, reason: str) -> None:
        message = f"the server answered {status} {reason}"
        if status == 416:
            self.validator = ""  # the local bytes are not a prefix of the current content
        if status in _RETRIED or status == 416:
            raise _TryAgain(message)
        raise _PermanentFailure(message)


def _opener(context: ActionContext, *, insecure: bool) -> urllib.request.OpenerDirector:
    """An opener for HTTP and HTTPS only, so that a redirect cannot use another scheme."""
    tls = ssl.create_default_context()
    if insecure:
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    opener = urllib.request.OpenerDirector()
    proxies = dict(context.services.proxies)
    for handler in (
        urllib.request.ProxyHandler(proxies),
        urllib.request.UnknownHandler(),
        _Http(context),
        _Https(context, tls),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


class _Http(urllib.request.HTTPHandler):
    def __init__(self, context: ActionContext) -> None:
        super().__init__()
        self._services = context.services

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        guarded = not self._services.loopback_downloads and not _is_proxied(request, self._services.proxies)
        return self.do_open(_GuardedHttp if guarded else http.client.HTTPConnection, request)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, context: ActionContext, tls: ssl.SSLContext) -> None:
        super().__init__(context=tls)
        self._tls = tls
        self._services = context.services

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        guarded = not self._services.loopback_downloads and not _is_proxied(request, self._services.proxies)
        kind = _GuardedHttps if guarded else http.client.HTTPSConnection
        return self.do_open(kind, request, context=self._tls)


def _is_proxied(request: urllib.request.Request, proxies: Mapping[str, str]) -> bool:
    """Whether a request uses a proxy, which may be on this machine; the requested host may not. Raises URLError.

    The proxy checks names that only the proxy can resolve.
    """
    netlocs = {urllib.parse.urlsplit(url if "//" in url else f"//{url}").netloc for url in proxies.values()}
    if request.host not in {urllib.parse.unquote(netloc.rpartition("@")[2]) for netloc in netlocs}:
        return False
    host = urllib.parse.unquote(urllib.parse.urlsplit(request.full_url).hostname or "")
    try:
        resolve(host, 0)
    except AddressRefused as error:
        raise urllib.error.URLError(error) from error
    except OSError:
        pass
    return True


class _GuardedHttp(http.client.HTTPConnection):
    """Connects to a checked address; the HTTPS connection continues from there."""

    def connect(self) -> None:
        self.sock = connect(self.host, self.port, self.timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


class _GuardedHttps(http.client.HTTPSConnection, _GuardedHttp):
    pass


def printable_url(source: str) -> str:
    """The URL as messages show it: without credentials and query, which may hold keys."""
    parts = urllib.parse.urlsplit(source)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
