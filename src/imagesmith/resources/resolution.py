"""Reference resolution: every ARN of a request becomes a resource here, or an error (spec/api.md 2.4, 3.4, 4.4).

exact build            that build
version without build  its highest usable build
wildcard               highest version, then highest build, that is usable
owner `aws`            managed content
another account        what its policy lets the caller read (shared.py); AccessDeniedException for the rest
another region         ResourceNotFoundException
"""

from __future__ import annotations

from collections.abc import Sequence

from imagesmith.resources import shared
from imagesmith.resources.call import Call
from imagesmith.resources.errors import access_denied, invalid_value, invalid_version, not_found
from imagesmith.store import queries
from imagesmith.store.records import Record
from imagesmith.store.usable import first_usable
from imagesmith.values.arn import Arn, ArnError
from imagesmith.values.version import Version, VersionError, VersionPattern

MANAGED_OWNER = "aws"

_WITHOUT_BUILDS = frozenset({"image-recipe", "container-recipe"})
"""Kinds whose versions are exact without a build number (spec/api.md 3.4)."""


def parse_arn(call: Call, text: str, *, path: str, kind: str = "") -> Arn:
    """Parse an ARN of the caller's account, or of managed content. Raises ApiError."""
    arn = _read_arn(call, text, path=path, kind=kind)
    if arn.owner not in (call.account, MANAGED_OWNER):
        raise access_denied(call.caller.principal, call.operation, text)
    return arn


def _read_arn(call: Call, text: str, *, path: str, kind: str) -> Arn:
    try:
        arn = Arn.parse(text)
    except ArnError as error:
        raise invalid_value(path, f"{error}.") from error
    if kind and arn.kind != kind:
        raise invalid_value(path, f"{text} is not the ARN of a resource of type {kind}.")
    if arn.region != call.region or arn.partition != call.caller.partition:
        raise not_found(arn.kind, text)
    return arn


def find(call: Call, text: str, *, path: str, kind: str = "") -> Record:
    """The one resource that an exact ARN names, in any spelling of its version. Raises ApiError."""
    arn = parse_arn(call, text, path=path, kind=kind)
    if arn.owner != MANAGED_OWNER:
        record = queries.get(call.tx, text)
        if record is not None:
            return record
    if arn.version is None:
        raise not_found(arn.kind, text)
    if arn.has_wildcard:
        raise invalid_value(path, "Wildcards are not accepted here; name one version.")
    found = _exact(arn, _builds(call, arn))
    if found is None:
        raise not_found(arn.kind, text)
    return found


def resolve(call: Call, text: str, *, path: str, kind: str = "") -> Record:
    """The resource that an ARN currently resolves to, wildcards and missing builds included. Raises ApiError.

    Of another account's resources only those count that the caller may read.
    """
    arn = _read_arn(call, text, path=path, kind=kind)
    if arn.owner not in (call.account, MANAGED_OWNER):
        builds = shared.readable(call, _builds(call, arn))
        found = _exact(arn, builds) if _names_one(arn) else _first(arn, builds)
        if found is None:
            raise shared.refusal(call, arn.kind, text)
        return found
    if _names_one(arn):
        return find(call, text, path=path, kind=kind)
    found = _first(arn, _builds(call, arn))
    if found is None:
        raise not_found(arn.kind, text)
    return found


def _names_one(arn: Arn) -> bool:
    """Whether an ARN names one resource, without a choice between builds."""
    return arn.version is None or arn.build is not None or (arn.kind in _WITHOUT_BUILDS and not arn.has_wildcard)


def _exact(arn: Arn, builds: Sequence[Record]) -> Record | None:
    """The build with the version of an ARN, in any spelling. Raises ApiError."""
    if arn.version is None or arn.has_wildcard:
        return None
    version = exact_version(arn.version)
    for record in builds:
        if record.version == version and (arn.build is None or str(record.build) == arn.build):
            return record
    return None


def _first(arn: Arn, builds: Sequence[Record]) -> Record | None:
    """The highest usable build that a version or a wildcard matches. Raises ApiError."""
    wanted = reading_pattern(arn.version or "")
    return first_usable(builds, wanted, exact=wanted.is_exact)


def reading_pattern(text: str) -> VersionPattern:
    try:
        return VersionPattern.for_reading(text)
    except VersionError as error:
        raise invalid_version(text, f"{error}.") from error


def exact_version(text: str) -> Version:
    try:
        return Version.parse(text)
    except VersionError as error:
        raise invalid_version(text, f"{error}.") from error


def _builds(call: Call, arn: Arn) -> list[Record]:
    if arn.owner == MANAGED_OWNER:
        return call.managed.versions(arn)
    return queries.versions(call.tx, arn.owner, arn.region, arn.kind, arn.slug, family=arn.family or "")


def require(call: Call, text: str, kind: str, *, path: str) -> Record:
    """The configuration or pipeline that another resource refers to. Raises ApiError."""
    return find(call, text, path=path, kind=kind)


def require_stored(call: Call, text: str, kind: str, *, path: str) -> str:
    """Check only that a resource exists; returns its ARN. Raises ApiError."""
    arn = parse_arn(call, text, path=path, kind=kind)
    if arn.owner != MANAGED_OWNER and queries.exists(call.tx, text):
        return text
    return find(call, text, path=path, kind=kind).arn


def refuse_wildcard(text: str, *, path: str) -> None:
    """Deletes and tags name one version (spec/api.md 3.4). Raises ApiError."""
    try:
        arn = Arn.parse(text)
    except ArnError:
        return
    if arn.has_wildcard:
        raise invalid_value(path, "Wildcards are not accepted here; name one version.")
