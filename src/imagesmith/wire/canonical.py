"""The canonical request of Signature Version 4: botocore's, in the spellings that clients sign.

botocore needs as much time for it as for the rest of a signature, and leaves most requests unchanged: a plain path,
no query or a single parameter, headers that occur once. The text of such requests is built here; a property test
compares it with botocore's. It is tried first, and botocore's decides when the signature does not match it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import parse_qsl

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from imagesmith.wire.messages import MAX_PARAMETERS, Request
from imagesmith.wire.model import SERVICE

_PLAIN_PATH: Final = re.compile(r"(?:/[A-Za-z0-9_-]+)+")
_PLAIN_QUERY: Final = re.compile(r"(?:[A-Za-z0-9._~%-]+=[A-Za-z0-9._~%-]*)?")
_PLAIN_NAME: Final = re.compile(r"[a-z0-9-]+")


def canonical_requests(request: Request, query: str, names: Sequence[str], digest: str) -> Iterator[str]:
    """Every text that a client may have signed for a request.

    `query` is the query without a signature, `names` the signed headers as the client lists them, `digest` the
    SHA-256 of the body that came, in hexadecimal.
    """
    plain = plain_request(request, query, names, digest)
    if plain is not None:
        yield plain
    headers = _Headers({name: request.headers.get(name, ()) for name in names})
    for spelling in _spellings(query):
        text = _BOTOCORE.text(
            _Signed(method=request.method, path=request.path, query=spelling, signed=headers, body_digest=digest)
        )
        if text != plain:
            yield text


def plain_request(request: Request, query: str, names: Sequence[str], digest: str) -> str | None:
    """The canonical request when botocore's rules change nothing; None when they may change something."""
    if not names or not _PLAIN_PATH.fullmatch(request.path) or not _PLAIN_QUERY.fullmatch(query):
        return None
    lines = [request.method.upper(), request.path, query]
    last = ""
    for name in names:
        values = request.headers.get(name, ())
        if name <= last or len(values) != 1 or not _PLAIN_NAME.fullmatch(name):
            return None
        lines.append(f"{name}:{' '.join(values[0].split())}")
        last = name
    return "\n".join((*lines, "", ";".join(names), digest))


@dataclass(frozen=True, slots=True)
class _Headers:
    """The signed headers, with the part of `email.message.Message` that botocore uses."""

    values: Mapping[str, Sequence[str]]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def get_all(self, name: str) -> Sequence[str]:
        return self.values[name]


class _Signed:
    """A received request, with the part of `AWSRequest` that botocore's canonicalisation uses."""

    __slots__ = ("body_digest", "headers", "method", "params", "signed", "url")

    def __init__(self, method: str, path: str, query: str, signed: _Headers, body_digest: str) -> None:
        self.method = method
        self.url = f"http://host{path}?{query}"
        self.params: dict[str, str] = {}
        self.headers: dict[str, str] = {}
        self.signed = signed
        self.body_digest = body_digest


class _Canonical(SigV4Auth):
    """botocore's canonical request, over exactly the headers that the caller names and the received body."""

    def __init__(self) -> None:
        super().__init__(Credentials("", ""), SERVICE, "")  # signatures are computed elsewhere

    def text(self, request: _Signed) -> str:
        text: str = self.canonical_request(cast("AWSRequest", request))
        return text

    def encoded_query(self, pairs: list[tuple[str, str]]) -> str:
        text: str = self._canonical_query_string_params(pairs)  # type: ignore[attr-defined]
        return text

    def headers_to_sign(self, request: Any) -> Any:
        return request.signed

    def payload(self, request: Any) -> str:
        digest: str = request.body_digest
        return digest


_BOTOCORE: Final = _Canonical()


def _spellings(query: str) -> Iterator[str]:
    """The query as received and, if different, as the rules encode it: clients sign one or the other."""
    yield query
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except ValueError:
        return
    encoded = _BOTOCORE.encoded_query(pairs)
    if encoded != query:
        yield encoded
