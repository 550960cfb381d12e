"""Signature Version 4, verified with botocore's own canonicalisation (spec/api.md 2.4).

    request --check_head--> Claim --check_body--> Identity
             form, key, scope, date     signature over headers and body

The two halves exist because a body that is over the limit is thrown away: what can be refused without it is
refused first. Accepted are the Authorization header and the presigned query. The body's real digest is part of
what is signed; a header that announces an unsigned or streamed body is refused, as by every service but S3.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, Final, Protocol, cast
from urllib.parse import parse_qsl

from botocore.auth import SIGV4_TIMESTAMP, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from imagesmith.resources.errors import ApiError
from imagesmith.wire.keys import AccessKey, KeyRing, principal_arn
from imagesmith.wire.messages import MAX_PARAMETERS, Request
from imagesmith.wire.model import SERVICE

ALGORITHM: Final = "AWS4-HMAC-SHA256"
TOLERANCE: Final = timedelta(minutes=5)
LONGEST_EXPIRY: Final = 7 * 24 * 3600
"""Seconds that a presigned query may be valid."""

_SIGNING_KEYS: Final = 1024
_MAX_SIGNED_HEADERS: Final = 200
_REGION: Final = re.compile(r"[a-z][a-z0-9-]{0,62}")
_STAMP: Final = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z")
_PAIR: Final = re.compile(r"\s*(Credential|SignedHeaders|Signature)=([^,\s]*)\s*")
_CREDENTIAL: Final = re.compile(r"Credential=([^/,\s]+)/[^/,\s]*/([^/,\s]*)/")
_UNKNOWN_KEY: Final = "The security token included in the request is invalid."


@dataclass(frozen=True, slots=True)
class Identity:
    """Who signed, and for which region."""

    account: str
    region: str
    principal: str


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request says about its signature, before the signature is computed."""

    identity: Identity
    key: AccessKey | None = None
    stamp: str = ""
    signature: str = ""
    signed_headers: tuple[str, ...] = ()
    query: str = ""
    """The query without the signature itself."""


class Authenticator(Protocol):
    """Tells who a request is from. Both halves raise ApiError with a code of spec/api.md 2.4."""

    def check_head(self, request: Request) -> Claim: ...

    def check_body(self, claim: Claim, request: Request) -> Identity: ...


class Trusting:
    """Takes every request, signed or not: mode `none`, for a machine of one's own.

    A key id of 12 digits is the account; the region is the credential scope's; both default to the settings.
    """

    def __init__(self, *, account: str, region: str, partition: str) -> None:
        self._account = account
        self._region = region
        self._partition = partition

    def check_head(self, request: Request) -> Claim:
        account, region = self._account, self._region
        found = _CREDENTIAL.search(request.header("authorization"))
        if found is not None:
            key_id, scoped = found.groups()
        else:
            parts = _presigned(request).get("X-Amz-Credential", "").split("/")
            key_id, scoped = parts[0], parts[2] if len(parts) > 2 else ""
        if re.fullmatch(r"[0-9]{12}", key_id, re.ASCII):
            account = key_id
        if _REGION.fullmatch(scoped):
            region = scoped
        return Claim(Identity(account, region, principal_arn(account, "", partition=self._partition)))

    def check_body(self, claim: Claim, request: Request) -> Identity:  # noqa: ARG002 - the Protocol's signature
        return claim.identity


class Verifier:
    """Verifies signatures against the keys of a ring: mode `static`."""

    def __init__(self, keys: KeyRing, *, clock: Callable[[], datetime]) -> None:
        self._keys = keys
        self._clock = clock
        self._canonical = _Canonical()
        # Deriving the key of a day and region costs more than the signature itself. Bounded, and safe in threads.
        self._signing_key = lru_cache(maxsize=_SIGNING_KEYS)(_signing_key)

    def check_head(self, request: Request) -> Claim:
        """Everything that can be told without the body: form, key, scope, date, which headers are signed."""
        authorization = request.header("authorization")
        if authorization:
            fields, query, lifetime = _from_header(request, authorization), request.query, None
        else:
            fields, query, lifetime = _from_query(request)
        moment = _moment(fields["Date"])
        key, region = self._check_credential(fields["Credential"], fields["Date"])
        self._check_token(key, fields["Token"])
        self._check_date(moment, lifetime)
        return Claim(
            identity=Identity(key.account, region, key.principal),
            key=key,
            stamp=fields["Date"],
            signature=fields["Signature"],
            signed_headers=_signed_headers(request, fields["SignedHeaders"]),
            query=query,
        )

    def check_body(self, claim: Claim, request: Request) -> Identity:
        """Compute the signature over the request as it came and compare, in constant time."""
        assert claim.key is not None
        digest = hashlib.sha256(request.body).hexdigest()
        announced = request.header("x-amz-content-sha256")
        if announced and announced != digest:
            raise _mismatch("The header 'x-amz-content-sha256' is not the SHA-256 digest of the body.")
        headers = _Headers({name: request.headers.get(name, ()) for name in claim.signed_headers})
        key = self._signing_key(claim.key.secret, claim.stamp[:8], claim.identity.region)
        scope = f"{claim.stamp[:8]}/{claim.identity.region}/{SERVICE}/aws4_request"
        given = claim.signature.encode()
        for query in _spellings(self._canonical, claim.query):
            signed = _Signed(request.method, request.path, query, headers, digest)
            canonical = hashlib.sha256(self._canonical.canonical(signed)).hexdigest()
            text = f"{ALGORITHM}\n{claim.stamp}\n{scope}\n{canonical}"
            if hmac.compare_digest(hmac.digest(key, text.encode(), "sha256").hex().encode(), given):
                return claim.identity
        raise _mismatch(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
            "Access Key and signing method. Consult the service documentation for details."
        )

    def _check_credential(self, credential: str, stamp: str) -> tuple[AccessKey, str]:
        parts = credential.split("/")
        if len(parts) != 5:
            raise _incomplete("The Credential must be of the form KEY/DATE/REGION/SERVICE/aws4_request.")
        key_id, date, region, service, terminator = parts
        key = self._keys.find(key_id)
        if key is None:
            raise ApiError("UnrecognizedClientException", _UNKNOWN_KEY)
        if service != SERVICE:
            raise _mismatch(f"Credential should be scoped to correct service: '{SERVICE}'.")
        if terminator != "aws4_request":
            raise _mismatch("Credential should be scoped with a valid terminator: 'aws4_request'.")
        if not _REGION.fullmatch(region):
            raise _mismatch("Credential should be scoped to a valid Region.")
        if date != stamp[:8]:
            raise _mismatch(f"Date in Credential scope does not match the date of the request: {stamp[:8]}.")
        return key, region

    def _check_token(self, key: AccessKey, token: str) -> None:
        if not hmac.compare_digest(key.session_token.encode(), token.encode()):
            raise ApiError("UnrecognizedClientException", _UNKNOWN_KEY)
        if key.expires is not None and self._clock() >= key.expires:
            raise ApiError("ExpiredTokenException", "The security token included in the request is expired")

    def _check_date(self, moment: datetime, lifetime: timedelta | None) -> None:
        """`lifetime` is how long a presigned query is valid; None: a header, valid for the tolerance."""
        now = self._clock()
        latest, earliest = now + TOLERANCE, now - (TOLERANCE if lifetime is None else lifetime)
        if moment < earliest:
            length = "5 min." if lifetime is None else f"{int(lifetime.total_seconds())} s."
            reason = f"Signature expired: {_stamp(moment)} is now earlier than {_stamp(earliest)}"
            raise _mismatch(f"{reason} ({_stamp(now)} - {length})")
        if moment > latest:
            reason = f"Signature not yet current: {_stamp(moment)} is still later than {_stamp(latest)}"
            raise _mismatch(f"{reason} ({_stamp(now)} + 5 min.)")


@dataclass(frozen=True, slots=True)
class _Headers:
    """The signed headers, in the little of `email.message.Message` that botocore asks for."""

    values: Mapping[str, Sequence[str]]

    def __iter__(self) -> Any:
        return iter(self.values)

    def get_all(self, name: str) -> Sequence[str]:
        return self.values[name]


class _Signed:
    """A received request, in the little of `AWSRequest` that botocore's canonicalisation asks for."""

    __slots__ = ("body_digest", "headers", "method", "params", "signed", "url")

    def __init__(self, method: str, path: str, query: str, signed: _Headers, body_digest: str) -> None:
        self.method = method
        self.url = f"http://host{path}?{query}"
        self.params: dict[str, str] = {}
        self.headers: dict[str, str] = {}
        self.signed = signed
        self.body_digest = body_digest


class _Canonical(SigV4Auth):
    """botocore's canonical request, over exactly the headers that the caller names and the body that came."""

    def __init__(self) -> None:
        super().__init__(Credentials("", ""), SERVICE, "")  # the signature itself is computed here, not there

    def canonical(self, request: _Signed) -> bytes:
        text: str = self.canonical_request(cast("AWSRequest", request))
        return text.encode()

    def encoded_query(self, pairs: list[tuple[str, str]]) -> str:
        text: str = self._canonical_query_string_params(pairs)  # type: ignore[attr-defined]
        return text

    def headers_to_sign(self, request: Any) -> Any:
        return request.signed

    def payload(self, request: Any) -> str:
        digest: str = request.body_digest
        return digest


def _spellings(canonical: _Canonical, query: str) -> Iterator[str]:
    """The query as it came, and if that differs, encoded by the rules: clients sign one or the other."""
    yield query
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=MAX_PARAMETERS)
    except ValueError:
        return
    encoded = canonical.encoded_query(pairs)
    if encoded != query:
        yield encoded


def _signing_key(secret: str, date: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (date, region, SERVICE, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _from_header(request: Request, authorization: str) -> dict[str, str]:
    algorithm, _, rest = authorization.partition(" ")
    if algorithm != ALGORITHM:
        raise _incomplete(f"The Authorization header must begin with {ALGORITHM}.")
    pairs = (_PAIR.fullmatch(piece) for piece in rest.split(",", 10))
    fields = {pair[1]: pair[2] for pair in pairs if pair is not None}
    for name in ("Credential", "SignedHeaders", "Signature"):
        if not fields.get(name):
            raise _incomplete(f"Authorization header requires '{name}' parameter.")
    return {**fields, "Date": _header_date(request), "Token": request.header("x-amz-security-token")}


def _header_date(request: Request) -> str:
    stamp = request.header("x-amz-date")
    if stamp:
        return stamp
    try:
        return parsedate_to_datetime(request.header("date")).astimezone(UTC).strftime(SIGV4_TIMESTAMP)
    except (TypeError, ValueError, OverflowError):
        raise _incomplete(
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
        ) from None


def _presigned(request: Request) -> dict[str, str]:
    if "X-Amz-" not in request.query:
        return {}
    try:
        pairs = parse_qsl(request.query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
    except ValueError:
        return {}
    return {name: value for name, value in pairs if name.startswith("X-Amz-")}


def _from_query(request: Request) -> tuple[dict[str, str], str, timedelta]:
    given = _presigned(request)
    if "X-Amz-Signature" not in given and "X-Amz-Credential" not in given:
        raise ApiError("MissingAuthenticationTokenException", "Missing Authentication Token")
    for name in ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature"):
        if not given.get(f"X-Amz-{name}"):
            raise _incomplete(f"AWS query-string parameters must include 'X-Amz-{name}'.")
    expires = given["X-Amz-Expires"]
    if given["X-Amz-Algorithm"] != ALGORITHM:
        raise _incomplete(f"X-Amz-Algorithm must be {ALGORITHM}.")
    if not re.fullmatch(r"[0-9]{1,6}", expires) or not 1 <= int(expires) <= LONGEST_EXPIRY:
        raise _incomplete(f"X-Amz-Expires must be a number of seconds from 1 to {LONGEST_EXPIRY}.")
    fields = {name: given[f"X-Amz-{name}"] for name in ("Credential", "Date", "SignedHeaders", "Signature")}
    query = "&".join(pair for pair in request.query.split("&") if not pair.startswith("X-Amz-Signature="))
    return {**fields, "Token": given.get("X-Amz-Security-Token", "")}, query, timedelta(seconds=int(expires))


def _signed_headers(request: Request, text: str) -> tuple[str, ...]:
    """The names of the signed headers; the host and every `x-amz-` header must be among them."""
    names = tuple(text.split(";", _MAX_SIGNED_HEADERS))
    if "host" not in names:
        raise _mismatch("'Host' must be a 'SignedHeader' in the AWS Authorization.")
    for name in request.headers:
        if name.startswith("x-amz-") and name not in names:
            raise _mismatch(f"'{name}' must be a 'SignedHeader' in the AWS Authorization.")
    return names


def _moment(stamp: str) -> datetime:
    try:
        found = _STAMP.fullmatch(stamp)
        if found is None:
            raise ValueError(stamp)
        year, month, day, hour, minute, second = map(int, found.groups())
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        raise _incomplete("The date of the request must be of the form YYYYMMDD'T'HHMMSS'Z'.") from None


def _stamp(moment: datetime) -> str:
    return moment.strftime(SIGV4_TIMESTAMP)


def _incomplete(message: str) -> ApiError:
    return ApiError("IncompleteSignatureException", message)


def _mismatch(message: str) -> ApiError:
    return ApiError("InvalidSignatureException", message)
