"""Pages, filters and opaque tokens of every List operation (spec/api.md 4.6).

A token is the position where the page ended, bound to operation, caller and filters, and sealed with a key of the
database: an altered, foreign or old token is refused.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from imagesmith.resources.call import Call
from imagesmith.resources.errors import bad_page_token, invalid_value
from imagesmith.store import queries
from imagesmith.store.queries import Selection
from imagesmith.store.records import Cursor, Record, microseconds
from imagesmith.values.api import ApiDocument, ApiResponse
from imagesmith.values.names import canonical_json, sha256_hex
from imagesmith.values.version import VersionError, VersionPattern

Accessor = Callable[[Record], Iterable[str]]
FilterTable = Mapping[str, Accessor]

DEFAULT_PAGE = 25
_TOKEN_SECONDS = 24 * 3600
_SCANNED_PER_CALL = 2000
"""Most rows read for one page; a page may be short and still have a token."""

_CHUNK = 200


def member(name: str) -> Accessor:
    """Filter on a top-level member of the document."""

    def values(record: Record) -> Iterable[str]:
        value = record.document.get(name)
        if isinstance(value, list):
            return [str(item) for item in value]
        return [] if value is None else [str(value)]

    return values


def version_text(record: Record) -> Iterable[str]:
    return [str(record.version)]


Show = Callable[[Record], ApiDocument]


def list_stored(
    call: Call,
    selection: Selection,
    *,
    key: str,
    filters: FilterTable,
    show: Show,
    keep: Callable[[Record], bool] | None = None,
) -> ApiResponse:
    """One page of stored resources; `keep` hides some independently of the filters."""
    accepts = matcher(call.request.get("filters", ()), filters, keep)
    size = call.request.get("maxResults", DEFAULT_PAGE)
    cursor = _read_token(call)
    selection = _narrow(selection, call.request.get("filters", ()))
    found: list[Record] = []
    scanned, exhausted = 0, False
    chunk = size + 1 if accepts is _everything else _CHUNK
    while len(found) <= size and scanned < _SCANNED_PER_CALL and not exhausted:
        rows = queries.page(call.tx, selection, cursor, chunk)
        exhausted = len(rows) < chunk
        scanned += len(rows)
        for record in rows:
            if len(found) > size:
                break
            if accepts(record):
                found.append(record)
        if rows and len(found) <= size:
            cursor = _cursor_of(rows[-1])
    following = _cursor_of(found[size - 1]) if len(found) > size else None if exhausted else cursor
    return _page(call, key, [show(record) for record in found[:size]], following)


def list_given(call: Call, records: Sequence[Record], *, key: str, filters: FilterTable, show: Show) -> ApiResponse:
    """One page of resources in memory (managed content)."""
    accepts = matcher(call.request.get("filters", ()), filters)
    size = call.request.get("maxResults", DEFAULT_PAGE)
    cursor = _read_token(call)
    ordered = sorted(records, key=_position, reverse=True)
    after = (cursor.created, cursor.arn) if cursor else None
    found = [record for record in ordered if (after is None or _position(record) < after) and accepts(record)]
    following = _cursor_of(found[size - 1]) if len(found) > size else None
    return _page(call, key, [show(record) for record in found[:size]], following)


def list_values(call: Call, values: Sequence[ApiDocument], *, key: str) -> ApiResponse:
    """One page of a fixed sequence, such as the packages of an image."""
    size = call.request.get("maxResults", DEFAULT_PAGE)
    cursor = _read_token(call)
    start = cursor.created if cursor else 0
    following = Cursor(start + size, "") if start + size < len(values) else None
    return _page(call, key, values[start : start + size], following)


def list_keyed(
    call: Call,
    fetch: Callable[[Cursor | None, int], Sequence[tuple[Cursor, ApiDocument]]],
    *,
    key: str,
) -> ApiResponse:
    """One page of the results of `fetch(after, limit)`, in order, each with the cursor that continues after it."""
    size = call.request.get("maxResults", DEFAULT_PAGE)
    found = fetch(_read_token(call), size + 1)
    return _page(call, key, [shown for _, shown in found[:size]], found[size - 1][0] if len(found) > size else None)


def _page(call: Call, key: str, shown: Sequence[ApiDocument], following: Cursor | None) -> ApiResponse:
    """The entries of a page, and the token of the next one where there is one."""
    if following is None:
        return {key: list(shown)}
    return {key: list(shown), "nextToken": _make_token(call, following)}


def empty_page(key: str) -> ApiResponse:
    return {key: []}


def matcher(
    wanted: Sequence[Mapping[str, Any]], table: FilterTable, keep: Callable[[Record], bool] | None = None
) -> Callable[[Record], bool]:
    """A predicate: filters are joined by AND, values of a filter by OR. Raises ApiError for an unknown name."""
    tests: list[Callable[[Record], bool]] = [keep] if keep else []
    for index, entry in enumerate(wanted):
        name, values = entry.get("name", ""), entry.get("values", ())
        if name not in table:
            known = ", ".join(sorted(table))
            raise invalid_value(f"filters[{index}].name", f"'{name}' is not a filter here; known filters: {known}.")
        tests.append(_test(name, values, table[name]))
    if not tests:
        return _everything
    return lambda record: all(test(record) for test in tests)


def _everything(_record: Record) -> bool:
    return True


def _test(name: str, values: Sequence[str], accessor: Accessor) -> Callable[[Record], bool]:
    def same(value: str, wanted: str) -> bool:
        if name == "name" and "*" in wanted:
            return _name_matches(value, wanted)
        if name == "version" and "x" in wanted:
            return _version_matches(value, wanted)
        return value == wanted

    return lambda record: any(same(value, wanted) for value in accessor(record) for wanted in values)


def _name_matches(value: str, wanted: str) -> bool:
    if wanted.startswith("*") and wanted.endswith("*") and len(wanted) > 1:
        return wanted[1:-1] in value
    if wanted.endswith("*"):
        return value.startswith(wanted[:-1])
    return value == wanted


def _version_matches(value: str, wanted: str) -> bool:
    try:
        pattern, version = VersionPattern.for_reading(wanted), VersionPattern.parse(value.split("/")[0])
    except VersionError:
        return False
    return all(node in (None, number) for node, number in zip(pattern.nodes, version.nodes, strict=True))


def _narrow(selection: Selection, wanted: Sequence[Mapping[str, Any]]) -> Selection:
    """Use the index for the most frequent filter: one exact name."""
    for entry in wanted:
        values = entry.get("values", ())
        if entry.get("name") == "name" and len(values) == 1 and "*" not in values[0]:
            return replace(selection, name=values[0])
    return selection


def _position(record: Record) -> tuple[int, str]:
    return (microseconds(record.created), record.arn)


def _cursor_of(record: Record) -> Cursor:
    return Cursor(*_position(record))


def _scope(call: Call) -> str:
    bound = {name: value for name, value in call.request.items() if name not in ("nextToken", "maxResults")}
    return sha256_hex(canonical_json([call.operation, call.account, call.region, bound]))


def _make_token(call: Call, cursor: Cursor) -> str:
    body = json.dumps([cursor.created, cursor.arn, int(call.now.timestamp())]).encode()
    return base64.urlsafe_b64encode(_seal(call, body) + body).decode()


def _seal(call: Call, body: bytes) -> bytes:
    return hmac.new(call.page_secret, _scope(call).encode() + body, hashlib.sha256).digest()[:16]


def _read_token(call: Call) -> Cursor | None:
    text = call.request.get("nextToken")
    if text is None:
        return None
    try:
        raw = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError, UnicodeEncodeError) as error:
        raise bad_page_token() from error
    seal, body = raw[:16], raw[16:]
    if not hmac.compare_digest(seal, _seal(call, body)):
        raise bad_page_token()
    created, arn, issued = json.loads(body)
    if call.now.timestamp() - issued > _TOKEN_SECONDS:
        raise bad_page_token()
    return Cursor(created, arn)
