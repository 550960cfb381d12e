"""OpenVEX 0.2.0 documents: https://github.com/openvex/spec. Pure.

Documents are untrusted: sizes, counts and texts are bounded, and every problem names the statement that has it.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from imagesmith import __version__
from imagesmith.store.vex import VexStatement, VexStatus
from imagesmith.values.names import canonical_json, iso_instant, sha256_hex
from imagesmith.vulnerabilities.question import BadQuestion, vulnerability_name

CONTEXT: Final = "https://openvex.dev/ns/v0.2.0"
JUSTIFICATIONS: Final = (
    "component_not_present", "vulnerable_code_not_present", "vulnerable_code_not_in_execute_path",
    "vulnerable_code_cannot_be_controlled_by_adversary", "inline_mitigations_already_exist",
)  # fmt: skip
MAX_BYTES: Final = 16 * 1024 * 1024
_MAX_STATEMENTS: Final = 100_000
_TOO_MANY: Final = f"it has more than {_MAX_STATEMENTS} statements about products"
_MAX_TEXT: Final = 2048
_CLOCK_SKEW: Final = timedelta(minutes=5)
"""How far the clock of an author may be ahead: of several verdicts the last one holds, so one from next year would
hold for a year."""
_CONTEXTS: Final = re.compile(r"https://openvex\.dev/ns(/v0\.2\.\d+)?")


class BadDocument(ValueError):
    """A document that is not OpenVEX, or states what nobody can obey: names the statement."""


def read_openvex(data: bytes, *, now: datetime) -> list[VexStatement]:
    """The statements of a document, one for each name, product and subcomponent. Raises BadDocument."""
    if len(data) > MAX_BYTES:
        raise BadDocument(f"it is larger than {MAX_BYTES} bytes")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise BadDocument(f"it is not JSON: {error}") from error
    if not isinstance(document, dict) or not _CONTEXTS.fullmatch(str(document.get("@context", ""))):
        raise BadDocument(f"it is not an OpenVEX document: its @context is not {CONTEXT}")
    author = _text(document, "author", "the document", required=True)
    stated = _moment(document.get("timestamp"), "the document", now)
    entries = document.get("statements")
    if not isinstance(entries, list) or not entries:
        raise BadDocument("it has no statements")
    found: list[VexStatement] = []
    for number, entry in enumerate(entries, 1):
        found += _statements(entry, f"statement {number}", author, stated, now)
        if len(found) > _MAX_STATEMENTS:
            raise BadDocument(_TOO_MANY)
    return found


def checked(item: VexStatement, where: str) -> VexStatement:
    """The statement, if it states what its status needs. Raises BadDocument."""
    if item.status is VexStatus.NOT_AFFECTED and not (item.justification or item.impact):
        raise BadDocument(f"{where}: not_affected needs a justification or an impact statement")
    if item.status is VexStatus.AFFECTED and not item.action:
        raise BadDocument(f"{where}: affected needs an action statement")
    if item.justification and item.status is not VexStatus.NOT_AFFECTED:
        raise BadDocument(f"{where}: a justification belongs to not_affected, and the status is {item.status}")
    return item


def statement_id(vulnerability: str, product: str, package: str) -> str:
    """One id for what a statement is about: a later verdict takes the position of the earlier one."""
    return sha256_hex(canonical_json([vulnerability, product, package]))[:16]


def write_openvex(items: Sequence[VexStatement], *, author: str, now: datetime, flat: bool) -> bytes:
    """One document; `flat`: packages are the products, for readers that know no subcomponents."""
    statements = [_entry(item, flat=flat) for item in items]
    document = {
        "@context": CONTEXT,
        "@id": f"urn:imagesmith:vex:{sha256_hex(canonical_json(statements))}",
        "author": author,
        "timestamp": iso_instant(now),
        "version": 1,
        "tooling": f"imagesmith {__version__}",
        "statements": statements,
    }
    return (json.dumps(document, indent=2) + "\n").encode()


def _entry(item: VexStatement, *, flat: bool) -> Mapping[str, Any]:
    product: dict[str, Any] = {"@id": item.package if flat and item.package else item.product}
    if item.package and not flat:
        product["subcomponents"] = [{"@id": item.package}]
    texts = {
        "justification": item.justification, "impact_statement": item.impact, "action_statement": item.action,
    }  # fmt: skip
    return {
        "vulnerability": {"name": item.vulnerability},
        "timestamp": iso_instant(item.stated),
        "products": [product],
        "status": str(item.status),
        **{name: value for name, value in texts.items() if value},
        # OpenVEX has one author for a document; who said it is kept with the statement
        "status_notes": f"stated by {item.author}",
    }


def _statements(
    entry: Any, where: str, author: str, stated: datetime | None, now: datetime
) -> Iterator[VexStatement]:
    if not isinstance(entry, dict):
        raise BadDocument(f"{where} is not an object")
    names = _names(entry, where)
    try:
        status = VexStatus(str(entry.get("status")))
    except ValueError as error:
        raise BadDocument(f"{where}: {str(entry.get('status'))[:40]!r} is not a status of OpenVEX") from error
    justification = _text(entry, "justification", where)
    if justification and justification not in JUSTIFICATIONS:
        raise BadDocument(f"{where}: {justification[:80]!r} is not a justification of OpenVEX")
    moment = _moment(entry.get("timestamp"), where, now) or stated
    if moment is None:
        raise BadDocument(f"{where} has no timestamp, and the document has none either")
    notes = _text(entry, "status_notes", where)
    products = list(_products(entry, where))
    if len(names) * len(products) > _MAX_STATEMENTS:
        # may be many more than the document has bytes
        raise BadDocument(_TOO_MANY)
    for name, (product, package) in itertools.product(names, products):
        item = VexStatement(
            id=statement_id(name, product, package), vulnerability=name, product=product, package=package,
            status=status, justification=justification, impact=_text(entry, "impact_statement", where),
            action=_text(entry, "action_statement", where),
            author=notes.removeprefix("stated by ") if notes.startswith("stated by ") else author, stated=moment,
        )  # fmt: skip
        yield checked(item, where)


def _names(entry: Mapping[str, Any], where: str) -> list[str]:
    """The name of a vulnerability and its aliases, as findings write them: a finding has one of them."""
    vulnerability = entry.get("vulnerability")
    if not isinstance(vulnerability, dict):
        vulnerability = {"name": _text(entry, "vulnerability", where, required=True)}
    where = f"{where}, vulnerability"
    names = [_text(vulnerability, "name", where, required=True)]
    aliases = vulnerability.get("aliases") or []
    if not isinstance(aliases, list):
        raise BadDocument(f"{where}: aliases is not a list")
    names += [_text({"alias": item}, "alias", where, required=True) for item in aliases]
    try:
        return list(dict.fromkeys(vulnerability_name(name) for name in names))
    except BadQuestion as error:
        raise BadDocument(f"{where}: {error}") from error


def _products(entry: Mapping[str, Any], where: str) -> Iterator[tuple[str, str]]:
    products = entry.get("products")
    if not isinstance(products, list) or not products:
        raise BadDocument(f"{where} names no products")
    for product in products:
        names = _identifiers(product, where)
        parts = product.get("subcomponents") if isinstance(product, dict) else None
        if not isinstance(parts, list | None):
            raise BadDocument(f"{where} has subcomponents that are not a list")
        packages = [name for part in parts or () for name in _identifiers(part, where)] or [""]
        yield from ((name, package) for name in names for package in packages)


def _identifiers(thing: Any, where: str) -> list[str]:
    """The name of a product: `@id`, and a package-url beside it."""
    if isinstance(thing, str):
        thing = {"@id": thing}
    if not isinstance(thing, dict):
        raise BadDocument(f"{where} has a product that is neither an object nor a text")
    identifiers = thing.get("identifiers")
    purl = _text(identifiers, "purl", where) if isinstance(identifiers, dict) else ""
    found = list(dict.fromkeys(text for text in (_text(thing, "@id", where), purl) if text))
    if not found:
        raise BadDocument(f"{where} has a product without @id and package-url")
    return found


def _text(thing: Mapping[str, Any], name: str, where: str, *, required: bool = False) -> str:
    value = thing.get(name, "")
    if not isinstance(value, str) or len(value) > _MAX_TEXT or not value.replace("\n", " ").isprintable():
        raise BadDocument(f"{where}: {name} is not a text of at most {_MAX_TEXT} printable characters")
    if required and not value:
        raise BadDocument(f"{where} has no {name}")
    return value


def _moment(value: Any, where: str, now: datetime) -> datetime | None:
    """A time in UTC; one without an offset is in UTC already."""
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value if isinstance(value, str) else "")
        # at the ends of the calendar an offset leads out of it
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise BadDocument(f"{where}: {str(value)[:40]!r} is not a time") from error
    if moment > now + _CLOCK_SKEW:
        raise BadDocument(f"{where}: {value[:40]} is in the future")
    return moment
