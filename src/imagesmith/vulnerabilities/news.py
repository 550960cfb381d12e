"""What new advisories say about images that were built before them.

    records that were not matched yet -> packages -> images -> less what a scan or an earlier update found
        -> in one transaction: a row of `exposures` for each vulnerability, one event for each image with one
           that no verdict (VEX) settles
        -> the records are marked as matched

A process that dies in between leaves the records unmatched: the next update compares them again, and what is stored
already is no news. An event is derived from its contents, so none is sent twice.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy.engine import Connection

from imagesmith.events.messages import cve_detected
from imagesmith.inspection.scanning.advisories import rated
from imagesmith.inspection.scanning.database import AdvisoryDatabase, AdvisoryReader
from imagesmith.inspection.scanning.severities import SEVERITIES, Severity, worst
from imagesmith.store import inventories, queries
from imagesmith.store.database import Database
from imagesmith.store.events import put_event
from imagesmith.store.findings import known_findings
from imagesmith.store.records import Record, microseconds
from imagesmith.values.chunks import in_chunks
from imagesmith.values.states import ImageStatus
from imagesmith.vulnerabilities.matching import FleetMatcher, plain_package
from imagesmith.vulnerabilities.question import Found, HeldPackage
from imagesmith.vulnerabilities.verdicts import ImageVerdicts, Verdicts

_RECORDS: Final = 5_000
"""Records that are compared at a time."""
_IMAGES: Final = 200
"""Images whose news are one transaction."""


class _Affecting(NamedTuple):
    """How a vulnerability affects packages of an image, by their numbers."""

    severity: Severity
    fixed: str
    packages: frozenset[int]


@dataclass(frozen=True)
class NewlyAffected:
    """An image, and the vulnerabilities that became known after its build."""

    image_arn: str
    pipeline_arn: str
    vulnerabilities: Mapping[str, Severity]
    fixes: Mapping[str, str]
    """Vulnerability -> a version with its fix, where there is one."""

    def to_json(self) -> Mapping[str, object]:
        named = [{"id": id, "severity": label} for id, label in sorted(self.vulnerabilities.items())]
        return {"image": self.image_arn, "pipeline": self.pipeline_arn, "vulnerabilities": named}


@dataclass
class News:
    """The result of one update: `records` were compared; `unknown` images have no known operating system."""

    records: int = 0
    images: list[NewlyAffected] = field(default_factory=list)
    undecided: int = 0
    unknown: int = 0

    def found(self) -> Found:
        """The images as the answer to a question, to see what mends them."""
        return Found(
            {
                item.image_arn: [HeldPackage(id, "", fixed=item.fixes.get(id, "")) for id in item.vulnerabilities]
                for item in self.images
            }
        )

    def to_json(self) -> Mapping[str, Any]:
        return {
            "records": self.records, "images": [item.to_json() for item in self.images],
            "undecided": self.undecided, "unknownSystems": self.unknown,
        }  # fmt: skip


def match_new_advisories(advisories: AdvisoryDatabase, database: Database, clock: Callable[[], datetime]) -> News:
    """Compare the records that are new with every stored inventory. Raises AdvisoriesError, StoreUnavailable."""
    news = News(unknown=database.query(inventories.images_without_system))
    while True:
        with advisories.reader() as reader:
            records = reader.unmatched(_RECORDS)
            if not records:
                return news
            found, undecided = database.query(lambda tx: _affected_images(tx, reader, list(records)))  # noqa: B023
        for chunk in in_chunks(sorted(found.items()), _IMAGES):
            news.images += _store(database, dict(chunk), clock())
        advisories.mark_matched(records)
        news.records += len(records)
        news.undecided += undecided


def _affected_images(
    tx: Connection, reader: AdvisoryReader, numbers: Sequence[int]
) -> tuple[dict[str, dict[str, _Affecting]], int]:
    """Image -> what affects it; and the records that could not be compared."""
    matcher = FleetMatcher(tx)
    by_system: dict[str, dict[int, dict[str, _Affecting]]] = defaultdict(lambda: defaultdict(dict))
    known = reader.advisories(numbers)
    for match in matcher.matches(reader.affected_by(list(known))):
        advisory = rated(known[match.record], match.affected)
        affecting = _Affecting(advisory.severity, match.fixed, frozenset({match.package}))
        _add(by_system[match.system][match.package], {advisory.id: affecting})
    found: dict[str, dict[str, _Affecting]] = defaultdict(dict)
    for system, affected in by_system.items():
        for holder in inventories.holders(tx, affected, system):
            _add(found[holder.image_arn], affected[holder.package])
    return found, matcher.undecided


def _add(known: dict[str, _Affecting], more: Mapping[str, _Affecting]) -> None:
    for id, item in more.items():
        earlier = known.get(id)
        if earlier is not None:
            label, fixed = worst(earlier.severity, item.severity), earlier.fixed or item.fixed
            item = _Affecting(label, fixed, earlier.packages | item.packages)
        known[id] = item


def _store(database: Database, found: Mapping[str, Mapping[str, _Affecting]], now: datetime) -> list[NewlyAffected]:
    """Store the news of some images and their events; returns the images with news."""
    by_scope: dict[str, list[str]] = defaultdict(list)
    records = database.query(lambda tx: queries.get_many(tx, list(found)))
    for arn, record in records.items():
        if record.status not in _GONE:
            by_scope[record.parsed.scope].append(arn)
    news: list[NewlyAffected] = []
    for scope, arns in sorted(by_scope.items()):
        news += database.change(
            scope, lambda tx, arns=arns: _put(tx, [records[arn] for arn in arns], found, now)  # type: ignore[misc]
        )  # fmt: skip
    return news


_GONE: Final = (ImageStatus.DELETED, ImageStatus.FAILED, ImageStatus.CANCELLED)
"""Images that nothing can be running on."""


def _put(
    tx: Connection, records: Sequence[Record], found: Mapping[str, Mapping[str, _Affecting]], now: datetime
) -> list[NewlyAffected]:
    numbers = {record.arn: inventories.inventory_number(tx, record.arn) for record in records}
    stored = inventories.exposures_of(tx, [number for number in numbers.values() if number is not None])
    scanned = known_findings(tx, list(numbers))
    new = {
        arn: {
            id: item
            for id, item in found[arn].items()
            if number is not None and (number, id) not in stored and (arn, id) not in scanned
        }
        for arn, number in numbers.items()
    }
    inventories.put_exposures(
        tx,
        [
            {
                "inventory": numbers[arn], "vulnerability_id": id, "severity": item.severity,
                "observed": microseconds(now),
            }
            for arn, items in new.items()
            for id, item in items.items()
        ],
    )  # fmt: skip
    unsettled = _unsettled(tx, new)
    return [_announce(tx, record, unsettled[record.arn], now) for record in records if unsettled[record.arn]]


def _unsettled(
    tx: Connection, new: Mapping[str, Mapping[str, _Affecting]]
) -> Mapping[str, Mapping[str, _Affecting]]:
    """The same without the vulnerabilities that statements (VEX) settle in every package that has them."""
    affecting = [(id, item) for items in new.values() for id, item in items.items()]
    verdicts = Verdicts(tx, [id for id, _ in affecting])
    names = inventories.package_names(tx, {number for _, item in affecting for number in item.packages})
    packages = {number: plain_package(*named) for number, named in names.items()}

    def is_settled(known: ImageVerdicts, id: str, item: _Affecting) -> bool:
        # what was read again in the meantime has other numbers
        named = [packages.get(number) for number in item.packages]
        found = [None if package is None else known.find([id], package) for package in named]
        return all(verdict is not None and verdict.settles for verdict in found)

    left: dict[str, Mapping[str, _Affecting]] = {}
    for arn, items in new.items():
        known = verdicts.of(arn)
        left[arn] = {id: item for id, item in items.items() if not is_settled(known, id, item)} if known else items
    return left


def _announce(tx: Connection, record: Record, found: Mapping[str, _Affecting], now: datetime) -> NewlyAffected:
    """Store the event of an image."""
    labels = {id: item.severity for id, item in found.items()}
    fixes = {id: item.fixed for id, item in found.items() if item.fixed}
    worst_first = sorted(labels, key=lambda id: (SEVERITIES.index(labels[id]), id))
    put_event(tx, cve_detected(record, Counter(labels.values()), worst_first, moment=now))
    return NewlyAffected(record.arn, record.source, labels, fixes)
