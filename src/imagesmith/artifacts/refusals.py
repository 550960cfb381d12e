"""Classifies skopeo's error texts of failed transfers: whether they are permanent, and what to try. Pure.

skopeo has one exit status for every failure, so only its text distinguishes them. An unrecognised text is
transient: a needless retry costs seconds, a missed one costs the build.
"""

from __future__ import annotations

import re

from imagesmith.settings import Registry

_TRANSIENT = re.compile(
    r"toomanyrequests|too many requests|blob upload unknown|blob upload invalid|connection refused|"
    r"connection reset|i/o timeout|no such host|unexpected EOF",
    re.IGNORECASE,
)
_LOGIN = re.compile(r"\bunauthorized\b|authentication required|invalid username/password", re.IGNORECASE)
_DENIED = re.compile(r"\bdenied: |access to the resource is denied|\bforbidden\b", re.IGNORECASE)
_NAMES = re.compile(
    r"\bname (?:invalid|unknown)\b|repository name not known|invalid repository name|invalid reference format",
    re.IGNORECASE,
)
_NOT_THERE = re.compile(r"\bmanifest unknown\b", re.IGNORECASE)
_UNSUPPORTED = re.compile(
    r"\bunsupported\b|manifest invalid|no descriptor found for reference|preserve(?:d)? digests", re.IGNORECASE
)
_TLS = re.compile(r"server gave HTTP response to HTTPS client|x509: |certificate signed by", re.IGNORECASE)
_STATUS = re.compile(r"(?:\bHTTP|\bstatus(?: code)?(?: from registry)?:?) (4[0-9]{2})\b", re.IGNORECASE)
_BUSY = re.compile(
    r"toomanyrequests|too many requests|\bHTTP status:? (?:408|425|429|5[0-9]{2})\b|status code:? 5[0-9]{2}|"
    r"bad gateway|service unavailable|gateway timeout|internal server error",
    re.IGNORECASE,
)
_AWAY = re.compile(
    rf"{_BUSY.pattern}|timeout|deadline exceeded|\bEOF\b|broken pipe|no route to host|network is unreachable",
    re.IGNORECASE,
)
_PASSING_STATUSES = frozenset({"408", "425", "429"})


def is_permanent(output: str, *, reading: bool = False) -> bool:
    """Whether the same request would be refused again. `reading`: a newly pushed manifest may appear late."""
    if _TRANSIENT.search(output) or (reading and _NOT_THERE.search(output)):
        return False
    if any(kind.search(output) for kind in (_LOGIN, _DENIED, _NAMES, _UNSUPPORTED, _TLS)):
        return True
    statuses = set(_STATUS.findall(output)) - _PASSING_STATUSES - ({"404"} if reading else set())
    return bool(statuses)


def is_away(output: str) -> bool:
    """Whether the error of a failed pull means that the registry is temporarily unreachable or busy.

    Any other pull fails at once: a misspelt name should not take minutes to fail.
    """
    return bool(_TRANSIENT.search(output) or _AWAY.search(output)) and not _NOT_THERE.search(output)


def has_answered(output: str) -> bool:
    """Whether the registry answered that it is too busy."""
    return bool(_BUSY.search(output))


def what_to_try(output: str, registry: Registry) -> str:
    """One sentence for the operator."""
    statuses = set(_STATUS.findall(output))
    if _LOGIN.search(output) or "401" in statuses:
        if not registry.username:
            return "the registry requires a login: set username and password_file of this registry in the settings"
        return f"check the user {registry.username!r} and the password in {registry.password_file}"
    if _DENIED.search(output) or "403" in statuses:
        return "allow the user of this registry to push to this repository"
    if _NAMES.search(output) or "404" in statuses:
        return "create the repository in the registry, or correct its name and the path of the registry"
    if _TLS.search(output):
        return "use a certificate that this host trusts, or set insecure = true for a registry on plain HTTP"
    if _UNSUPPORTED.search(output):
        return "check whether the registry accepts OCI images"
    return f"check that the registry at {registry.url} runs and is reachable from this host"
