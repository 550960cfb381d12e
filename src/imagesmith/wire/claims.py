"""Parses the signature parts of a request, before any signature is computed: the header form and the query form.

    Authorization: AWS4-HMAC-SHA256 Credential=KEY/DAY/REGION/SERVICE/aws4_request, SignedHeaders=..., Signature=...
    ?X-Amz-Algorithm=...&X-Amz-Credential=...&X-Amz-Date=...&X-Amz-Expires=...&X-Amz-SignedHeaders=...&X-Amz-Signature=...

Both become a Statement. A missing part is an IncompleteSignatureException that names it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final
from urllib.parse import parse_qsl

from botocore.auth import SIGV4_TIMESTAMP

from imagesmith.resources.errors import ApiError
from imagesmith.wire.messages import MAX_PARAMETERS, Request

ALGORITHM: Final = "AWS4-HMAC-SHA256"
LONGEST_EXPIRY: Final = 7 * 24 * 3600
"""Seconds that a presigned query may be valid."""

_MAX_SIGNED_HEADERS: Final = 200
_MAX_KEPT_TEXT: Final = 1024
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_STAMP: Final = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z")
_PAIR: Final = re.compile(r"\s*(Credential|SignedHeaders|Signature)=([^,\s]*)\s*")


Credential = tuple[str, str, str, str, str]


@dataclass(frozen=True, slots=True)
class Statement:
    """The parts of a signature as sent, not yet verified."""

    credential: Credential
    """Key id, day, region, service, terminator."""
    stamp: str
    """The time as text, which is itself signed."""
    moment: datetime
    lifetime: timedelta | None
    """How long a presigned query is valid; None for the header form, which has no such time."""
    token: str
    signed_headers: tuple[str, ...]
    signature: str
    query: str
    """The query without the signature itself."""


def read_statement(request: Request) -> Statement:
    """The statement of a request. Raises ApiError: MissingAuthenticationToken- or IncompleteSignatureException."""
    authorization = request.header("authorization")
    return _from_header(request, authorization) if authorization else _from_query(request)


def _from_header(request: Request, authorization: str) -> Statement:
    beginning, mark, signature = authorization.rpartition("Signature=")
    if mark and len(beginning) <= _MAX_KEPT_TEXT and _DIGEST.fullmatch(signature):
        credential, signed_headers, signature = *_usual_fields(beginning), signature
    else:
        credential, signed_headers, signature = _fields(authorization)
    stamp = _header_date(request)
    return Statement(
        credential=credential,
        stamp=stamp,
        moment=_moment(stamp),
        lifetime=None,
        token=request.header("x-amz-security-token"),
        signed_headers=signed_headers,
        signature=signature,
        query=request.query,
    )


def _fields(authorization: str) -> tuple[Credential, tuple[str, ...], str]:
    """Credential, signed headers and signature of an Authorization header."""
    algorithm, _, rest = authorization.partition(" ")
    if algorithm != ALGORITHM:
        raise incomplete(f"The Authorization header must begin with {ALGORITHM}.")
    pairs = (_PAIR.fullmatch(piece) for piece in rest.split(",", 10))
    fields = {pair[1]: pair[2] for pair in pairs if pair is not None}
    for name in ("Credential", "SignedHeaders", "Signature"):
        if not fields.get(name):
            raise incomplete(f"Authorization header requires '{name}' parameter.")
    signed_headers = tuple(fields["SignedHeaders"].split(";", _MAX_SIGNED_HEADERS))
    return _credential(fields["Credential"]), signed_headers, fields["Signature"]


@lru_cache(maxsize=1024)
def _usual_fields(beginning: str) -> tuple[Credential, tuple[str, ...]]:
    """The parts before the signature, which are equal in all requests that a client sends in a day."""
    credential, signed_headers, _ = _fields(f"{beginning}Signature={'0' * 64}")
    return credential, signed_headers


def _from_query(request: Request) -> Statement:
    given = presigned_parameters(request)
    if "X-Amz-Signature" not in given and "X-Amz-Credential" not in given:
        raise ApiError("MissingAuthenticationTokenException", "Missing Authentication Token")
    for name in ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature"):
        if not given.get(f"X-Amz-{name}"):
            raise incomplete(f"AWS query-string parameters must include 'X-Amz-{name}'.")
    expires = given["X-Amz-Expires"]
    if given["X-Amz-Algorithm"] != ALGORITHM:
        raise incomplete(f"X-Amz-Algorithm must be {ALGORITHM}.")
    if not re.fullmatch(r"[0-9]{1,6}", expires) or not 1 <= int(expires) <= LONGEST_EXPIRY:
        raise incomplete(f"X-Amz-Expires must be a number of seconds from 1 to {LONGEST_EXPIRY}.")
    return Statement(
        credential=_credential(given["X-Amz-Credential"]),
        stamp=given["X-Amz-Date"],
        moment=_moment(given["X-Amz-Date"]),
        lifetime=timedelta(seconds=int(expires)),
        token=given.get("X-Amz-Security-Token", ""),
        signed_headers=tuple(given["X-Amz-SignedHeaders"].split(";", _MAX_SIGNED_HEADERS)),
        signature=given["X-Amz-Signature"],
        query="&".join(pair for pair in request.query.split("&") if not pair.startswith("X-Amz-Signature=")),
    )


def presigned_parameters(request: Request) -> dict[str, str]:
    """The query parameters of a presigned request."""
    if "X-Amz-" not in request.query:
        return {}
    try:
        pairs = parse_qsl(request.query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
    except ValueError:
        return {}
    return {name: value for name, value in pairs if name.startswith("X-Amz-")}


def incomplete(message: str) -> ApiError:
    return ApiError("IncompleteSignatureException", message)


def _credential(text: str) -> Credential:
    parts = text.split("/", 5)
    if len(parts) != 5:
        raise incomplete("The Credential must be of the form KEY/DATE/REGION/SERVICE/aws4_request.")
    key_id, day, region, service, terminator = parts
    return key_id, day, region, service, terminator


def _header_date(request: Request) -> str:
    stamp = request.header("x-amz-date")
    if stamp:
        return stamp
    try:
        return parsedate_to_datetime(request.header("date")).astimezone(UTC).strftime(SIGV4_TIMESTAMP)
    except (TypeError, ValueError, OverflowError):
        message = "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
        raise incomplete(message) from None


@lru_cache(maxsize=1024)
def _moment(stamp: str) -> datetime:
    # requests of one second share a stamp
    try:
        found = _STAMP.fullmatch(stamp)
        if found is None:
            raise ValueError(stamp)
        year, month, day, hour, minute, second = map(int, found.groups())
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise incomplete("The date of the request must be of the form YYYYMMDD'T'HHMMSS'Z'.") from None
