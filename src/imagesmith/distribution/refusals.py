"""What the last words of skopeo say about a failed transfer: is it final, and what should a person try. Pure.

skopeo has one exit status for every failure, so its text is all there is. A text that is not recognised is
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
_PASSING_STATUSES = frozenset({"408", "425", "429"})


def is_permanent(output: str, *, reading: bool = False) -> bool:
    """Whether the same request would be refused again. `reading`: a manifest just pushed may appear late."""
    if _TRANSIENT.search(output) or (reading and _NOT_THERE.search(output)):
        return False
    if any(kind.search(output) for kind in (_LOGIN, _DENIED, _NAMES, _UNSUPPORTED, _TLS)):
        return True
    statuses = set(_STATUS.findall(output)) - _PASSING_STATUSES - ({"404"} if reading else set())
    return bool(statuses)


def what_to_try(output: str, registry: Registry) -> str:
    """One sentence for the operator."""
    statuses = set(_STATUS.findall(output))
    if _LOGIN.search(output) or "401" in statuses:
        if not registry.username:
            return "the registry wants a login: set username and password_file of this registry in the settings"
        return f"check the user {registry.username!r} and the password in {registry.password_file}"
    if _DENIED.search(output) or "403" in statuses:
        return "give the user of this registry the right to push to this repository"
    if _NAMES.search(output) or "404" in statuses:
        return "create the repository in the registry, or correct its name and the path of the registry"
    if _TLS.search(output):
        return "use a certificate that this host trusts, or set insecure = true for a registry on plain HTTP"
    if _UNSUPPORTED.search(output):
        return "see whether the registry accepts OCI images"
    return f"see that the registry at {registry.url} runs and can be reached from this host"
