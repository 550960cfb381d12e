"""Downloads a file of ADD, through the network of the sandbox that this program runs in."""

from __future__ import annotations

import base64
import hashlib
import http.client
import posixpath
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import IO, Any, Final

from imagesmith.copying.program.failures import CopyBudget, UserFailure, shown

_SILENCE_SECONDS: Final = 60.0
_PIECE: Final = 1024 * 1024
_AGENT: Final = "imagesmith"
_CLOSED: Final = "the network of builds reaches neither this machine nor link-local addresses"
_FAILURES: Final = (OSError, http.client.HTTPException, ValueError)


@dataclass(frozen=True)
class DownloadResponse:
    """An answer whose body was not read yet."""

    url: str
    body: IO[bytes]
    length: int | None
    modified: float
    """When the file was changed, in seconds since 1970; 0 when the server does not say."""


def file_name(url: str) -> str:
    """The name that a download gets in a folder. Raises UserFailure if its URL has none."""
    path = urllib.parse.unquote(_split(url).path, errors="surrogateescape")
    name = posixpath.basename(path.rstrip("/"))
    if name in ("", ".", "..") or "\0" in name:
        where = shown(without_login(url))
        raise UserFailure(f"{where} has no file name: write the destination with its name, and no slash at the end")
    return name


@contextmanager
def opened(url: str, authorities: str, budget: CopyBudget) -> Iterator[DownloadResponse]:
    """Ask for a file and follow redirections. Raises UserFailure."""
    address = _split(url)
    opener = _opener(authorities, needs_authorities=address.scheme.lower() == "https")
    headers = {"User-Agent": _AGENT, "Accept-Encoding": "identity", **_login(address)}
    request = urllib.request.Request(_quoted(address), headers=headers)  # noqa: S310 - it knows http and https alone
    url = without_login(url)
    try:
        answer = opener.open(request, timeout=_SILENCE_SECONDS)
    except urllib.error.HTTPError as error:
        with error:
            raise UserFailure(
                f"{shown(url)}: the server answered {error.code} {shown(error.reason or '')}"
            ) from error
    except _FAILURES as error:
        raise UserFailure(f"{shown(url)}: {_words(error)}") from error
    with answer:
        length = answer.headers.get("Content-Length")
        size = int(length) if length and length.isdecimal() and not answer.chunked else None
        if size is not None and size > budget.download:
            raise UserFailure(f"{shown(url)}: its {size} bytes are more than the {budget.download} of a download")
        yield DownloadResponse(url, answer, size, _modified(answer.headers.get("Last-Modified")))


def save(response: DownloadResponse, write: Any, budget: CopyBudget) -> tuple[str, int]:
    """Hand the body to `write`, piece by piece; returns its SHA-256 and size. Raises UserFailure."""
    digest = hashlib.sha256()
    size = 0
    while True:
        try:
            data = response.body.read(_PIECE)
        except _FAILURES as error:
            raise UserFailure(
                f"{shown(response.url)}: the download ended after {size} bytes: {_words(error)}"
            ) from error
        if not data:
            break
        size += len(data)
        if size > budget.download:
            raise UserFailure(f"{shown(response.url)}: it has more than the {budget.download} bytes of a download")
        digest.update(data)
        write(data)
    if response.length is not None and size != response.length:
        raise UserFailure(
            f"{shown(response.url)}: the download ended after {size} of {response.length} bytes; try again"
        )
    return digest.hexdigest(), size


def check_sum(url: str, wanted: str, found: str) -> None:
    if wanted and wanted.lower() != f"sha256:{found}":
        raise UserFailure(
            f"digest mismatch of {shown(url)}: sha256:{found} was downloaded, and the checksum is {wanted}"
        )


class _Redirections(urllib.request.HTTPRedirectHandler):
    """Redirections to http and https alone."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urllib.parse.urlsplit(newurl).scheme.lower() not in ("http", "https"):
            raise UserFailure(
                f"{shown(req.full_url)} leads to {shown(without_login(newurl))}, which is neither http nor https"
            )
        followed = super().redirect_request(req, fp, code, msg, headers, newurl)
        if followed is not None and followed.host != req.host:
            followed.remove_header("Authorization")
        return followed


def _opener(authorities: str, *, needs_authorities: bool) -> urllib.request.OpenerDirector:
    if needs_authorities and not authorities:
        raise UserFailure("this server has no certificates of authorities for https: install ca-certificates")
    context = ssl.create_default_context(cadata=authorities or None)
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(context=context),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirections(),
    ):
        opener.add_handler(handler)
    return opener


def without_login(url: str) -> str:
    """A URL without the user and password in it, for messages and records."""
    address = _split(url)
    return urllib.parse.urlunsplit(address._replace(netloc=address.netloc.rpartition("@")[2]))


def _split(url: str) -> urllib.parse.SplitResult:
    try:
        return urllib.parse.urlsplit(url)
    except ValueError as error:
        raise UserFailure(f"this is not a URL: {error}") from error


def _login(address: urllib.parse.SplitResult) -> dict[str, str]:
    """The header of the user and password in a URL."""
    login, at, _ = address.netloc.rpartition("@")
    if not at:
        return {}
    user, _, password = login.partition(":")
    pair = b":".join(urllib.parse.unquote_to_bytes(text) for text in (user, password))
    return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}


def _quoted(address: urllib.parse.SplitResult) -> str:
    """The address with letters escaped that HTTP does not allow; escapes that are there are kept."""
    host = address.netloc.rpartition("@")[2]
    try:
        host = host if host.isascii() else host.encode("idna").decode()
        if not address.hostname or address.port == 0:
            raise ValueError
    except ValueError as error:
        raise UserFailure(
            f"'{shown(host)}' is not a server: write http://NAME/FILE or http://NAME:PORT/FILE"
        ) from error
    path = urllib.parse.quote(address.path or "/", safe="/%:@!$&'()*+,;=~-._")
    query = urllib.parse.quote(address.query, safe="/%:@!$&'()*+,;=~-._?")
    return urllib.parse.urlunsplit((address.scheme, host, path, query, ""))


def _modified(text: str | None) -> float:
    try:
        return max(parsedate_to_datetime(text).timestamp(), 0.0) if text else 0.0
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _words(error: BaseException) -> str:
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, BaseException):
        error = error.reason
    if isinstance(error, TimeoutError):
        return f"the server was silent for {_SILENCE_SECONDS:.0f} s"
    if isinstance(error, PermissionError):
        return f"it cannot be reached: {_CLOSED}"
    text = str(getattr(error, "strerror", "") or error) or type(error).__name__
    return shown(text)
