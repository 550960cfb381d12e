"""Signature Version 4, verified with botocore's own canonicalisation (spec/api.md 2.4).

    request --check_head--> Claim --check_body--> Identity
             form, key, scope, date     signature over headers and body

The two halves exist because a body over the limit is discarded: a request that can be refused without its body is
refused first. A digest in the headers is verified before a byte of the body is read. Accepted are the
Authorization header and the presigned query. The body's real digest is part of what is signed; a header that
announces an unsigned or streamed body is refused, as by every service but S3.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final, Protocol

from botocore.auth import SIGV4_TIMESTAMP

from imagesmith.accounts.keys import AccessKey, KeyRing, principal_arn
from imagesmith.policies.access import AccessPolicy
from imagesmith.resources.errors import ApiError
from imagesmith.values.names import REGION
from imagesmith.wire.canonical import canonical_requests
from imagesmith.wire.claims import ALGORITHM, Statement, presigned_parameters, read_statement
from imagesmith.wire.messages import Request
from imagesmith.wire.model import SERVICE

TOLERANCE: Final = timedelta(minutes=5)

_SIGNING_KEYS: Final = 1024
_REGION: Final = re.compile(REGION)
_CREDENTIAL: Final = re.compile(r"Credential=([^/,\s]+)/[^/,\s]*/([^/,\s]*)/")
_ANNOUNCED: Final = "x-amz-content-sha256"
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_UNKNOWN_KEY: Final = "The security token included in the request is invalid."


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signed, and for which region."""

    account: str
    region: str
    principal: str
    access_key_id: str = ""
    """Empty when nothing was verified."""
    policy: AccessPolicy = AccessPolicy()  # noqa: RUF009 (frozen)


@dataclass(frozen=True, slots=True)
class Claim:
    """An identity that the signature does not yet prove."""

    identity: Signer
    key: AccessKey | None = None
    statement: Statement | None = None


class Authenticator(Protocol):
    """Authenticates requests. Both halves raise ApiError with a code of spec/api.md 2.4."""

    def check_head(self, request: Request) -> Claim: ...

    def check_announced(self, claim: Claim, request: Request) -> None:
        """Check, before the body arrives, that the announced digest is signed."""
        ...

    def check_body(self, claim: Claim, request: Request) -> Signer: ...

    def recheck(self, claim: Claim) -> Signer:
        """The identity of a claim that was proved before, by the keys of now."""
        ...


class Trusting:
    """Accepts every request, signed or not: mode `none`, for a private machine.

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
            parts = presigned_parameters(request).get("X-Amz-Credential", "").split("/")
            key_id, scoped = parts[0], parts[2] if len(parts) > 2 else ""
        if re.fullmatch(r"[0-9]{12}", key_id, re.ASCII):
            account = key_id
        if _REGION.fullmatch(scoped):
            region = scoped
        return Claim(Signer(account, region, principal_arn(account, "", partition=self._partition)))

    def check_announced(self, claim: Claim, request: Request) -> None:
        pass

    def check_body(self, claim: Claim, request: Request) -> Signer:  # noqa: ARG002 - the Protocol's signature
        return claim.identity

    def recheck(self, claim: Claim) -> Signer:
        return claim.identity


class Verifier:
    """Verifies signatures against the keys of a ring: mode `static`."""

    def __init__(self, keys: KeyRing, *, clock: Callable[[], datetime]) -> None:
        self._keys = keys
        self._clock = clock
        # Deriving the key of a day and region costs more than the signature itself. Bounded, and safe in threads.
        self._signing_key = lru_cache(maxsize=_SIGNING_KEYS)(_signing_key)

    def check_head(self, request: Request) -> Claim:
        """All checks that need no body: form, key, scope, date, which headers are signed."""
        statement = read_statement(request)
        now = self._clock()
        key = self._find(statement, now)
        _check_scope(statement)
        _check_expiry(key, now)
        _check_time(statement, now)
        _check_coverage(statement, request)
        return Claim(_signer(key, statement), key, statement)

    def recheck(self, claim: Claim) -> Signer:
        """Only the age of the signature is not looked at again."""
        assert claim.statement is not None
        now = self._clock()
        key = self._find(claim.statement, now)
        _check_expiry(key, now)
        return _signer(key, claim.statement)

    def _find(self, statement: Statement, now: datetime) -> AccessKey:
        key = self._keys.find(statement.credential[0], now)
        if key is None or not hmac.compare_digest(key.session_token.encode(), statement.token.encode()):
            raise ApiError("UnrecognizedClientException", _UNKNOWN_KEY)
        return key

    def check_body(self, claim: Claim, request: Request) -> Signer:
        """Compute the signature over the received request and compare, in constant time."""
        digest = hashlib.sha256(request.body).hexdigest()
        announced = request.header(_ANNOUNCED)
        if announced and announced != digest:
            raise _mismatch(f"The header '{_ANNOUNCED}' is not the SHA-256 digest of the body.")
        self._check_signature(claim, request, digest)
        return claim.identity

    def check_announced(self, claim: Claim, request: Request) -> None:
        announced = request.header(_ANNOUNCED)
        if announced:
            if not _DIGEST.fullmatch(announced):
                raise _mismatch(f"The header '{_ANNOUNCED}' is not the SHA-256 digest of the body.")
            self._check_signature(claim, request, announced)

    def _check_signature(self, claim: Claim, request: Request, digest: str) -> None:
        assert claim.key is not None and claim.statement is not None
        statement = claim.statement
        _, day, region, _, _ = statement.credential
        key = self._signing_key(claim.key.secret, day, region)
        beginning = f"{ALGORITHM}\n{statement.stamp}\n{'/'.join(statement.credential[1:])}\n"
        given = statement.signature.encode()
        for signed in canonical_requests(request, statement.query, statement.signed_headers, digest):
            text = beginning + hashlib.sha256(signed.encode()).hexdigest()
            if hmac.compare_digest(hmac.digest(key, text.encode(), "sha256").hex().encode(), given):
                return
        raise _mismatch(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
            "Access Key and signing method. Consult the service documentation for details."
        )


def _signer(key: AccessKey, statement: Statement) -> Signer:
    return Signer(
        account=key.account, region=statement.credential[2], principal=key.principal,
        access_key_id=key.access_key_id, policy=key.policy,
    )  # fmt: skip


def _check_expiry(key: AccessKey, now: datetime) -> None:
    if key.expires is not None and now >= key.expires:
        raise ApiError("ExpiredTokenException", "The security token included in the request is expired")


def _check_scope(statement: Statement) -> None:
    _, day, region, service, terminator = statement.credential
    if service != SERVICE:
        raise _mismatch(f"Credential should be scoped to correct service: '{SERVICE}'.")
    if terminator != "aws4_request":
        raise _mismatch("Credential should be scoped with a valid terminator: 'aws4_request'.")
    if not _REGION.fullmatch(region):
        raise _mismatch("Credential should be scoped to a valid Region.")
    if day != statement.stamp[:8]:
        raise _mismatch(f"Date in Credential scope does not match the date of the request: {statement.stamp[:8]}.")


def _check_time(statement: Statement, now: datetime) -> None:
    lifetime = TOLERANCE if statement.lifetime is None else statement.lifetime
    earliest, latest = now - lifetime, now + TOLERANCE
    if statement.moment < earliest:
        length = "5 min." if statement.lifetime is None else f"{int(lifetime.total_seconds())} s."
        reason = f"Signature expired: {statement.stamp} is now earlier than {_stamp(earliest)}"
        raise _mismatch(f"{reason} ({_stamp(now)} - {length})")
    if statement.moment > latest:
        reason = f"Signature not yet current: {statement.stamp} is still later than {_stamp(latest)}"
        raise _mismatch(f"{reason} ({_stamp(now)} + 5 min.)")


def _check_coverage(statement: Statement, request: Request) -> None:
    """The host and every `x-amz-` header must be signed: they change what a request means."""
    if "host" not in statement.signed_headers:
        raise _mismatch("'Host' must be a 'SignedHeader' in the AWS Authorization.")
    for name in request.headers:
        if name.startswith("x-amz-") and name not in statement.signed_headers:
            raise _mismatch(f"'{name}' must be a 'SignedHeader' in the AWS Authorization.")


def _signing_key(secret: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (day, region, SERVICE, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _stamp(moment: datetime) -> str:
    return moment.strftime(SIGV4_TIMESTAMP)


def _mismatch(message: str) -> ApiError:
    return ApiError("InvalidSignatureException", message)
