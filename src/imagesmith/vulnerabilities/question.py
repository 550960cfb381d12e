"""Which images have it? A vulnerability, a package, a licence or a file, over every image of the store.

    CVE       its records in the advisory database -> packages -> images; and what scans found under the name
    package   its rows -> images
    licence   the packages that state it -> images
    digest    images that are, or whose packages list, that file

Nothing is scanned: what was read when an image was built is compared with the advisories of today.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy.engine import Connection

from imagesmith.inspection.scanning.advisories import rated
from imagesmith.inspection.scanning.database import AdvisoryReader
from imagesmith.inspection.scanning.severities import Severity, worst
from imagesmith.store import inventories
from imagesmith.store.ancestry import images_of_digest
from imagesmith.store.findings import findings_named, images_with_finding
from imagesmith.values.package_names import normal_name
from imagesmith.vulnerabilities.matching import KINDS, FleetMatcher, plain_package
from imagesmith.vulnerabilities.verdicts import ImageVerdicts, Verdicts

_VULNERABILITY: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*([-:][A-Za-z0-9._]+)+")
_DIGEST: Final = re.compile(r"(sha256:)?[0-9a-f]{64}")
_LONGEST: Final = 256


class BadQuestion(ValueError):
    """A question that cannot be asked: names what is wrong and shows an example."""


@dataclass(frozen=True)
class HeldPackage:
    """Why an image is in the answer: a package, and for a vulnerability its severity and fix (empty: none)."""

    name: str
    version: str
    kind: str = ""
    severity: Severity | str = ""
    fixed: str = ""
    verdict: str = ""
    """What a statement (VEX) says about it."""
    settled: bool = False
    """Whether it says that nothing needs to be done."""
    advisories: tuple[str, ...] = ()
    """The names of the findings that it has; a verdict settles it when each of them is settled."""

    def to_json(self) -> Mapping[str, str]:
        members = {"name": self.name, "version": self.version, "type": self.kind}
        more = {"severity": str(self.severity), "fixedVersion": self.fixed, "verdict": self.verdict}
        return {**members, **{name: value for name, value in more.items() if value}}


@dataclass(frozen=True)
class Found:
    """Image -> why it is in the answer; `scanned`: a scan found it, and no stored package matches (any more)."""

    images: Mapping[str, Sequence[HeldPackage]]
    scanned: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


def vulnerability_name(text: str) -> str:
    """The name as advisories write it. Raises BadQuestion."""
    if len(text) > _LONGEST or not _VULNERABILITY.fullmatch(text):
        raise BadQuestion(f"'{text[:80]}' is not the name of a vulnerability; write one like CVE-2026-1234")
    return text.upper() if text[:4].upper() == "CVE-" else text


def vulnerable_images(tx: Connection, reader: AdvisoryReader | None, name: str) -> Found:
    """The images that have a vulnerability, by any of its names. Raises BadQuestion."""
    name = vulnerability_name(name)
    numbers = reader.named(name) if reader is not None else []
    known = reader.advisories(numbers) if reader is not None else {}
    matcher, notes = FleetMatcher(tx), []
    hits: dict[str, dict[int, _Hit]] = defaultdict(dict)
    for match in matcher.matches(reader.affected_by(list(known)) if reader is not None else ()):
        advisory = rated(known[match.record], match.affected)
        hit, earlier = _Hit(advisory.severity, match.fixed, (advisory.id,)), hits[match.system].get(match.package)
        hits[match.system][match.package] = hit if earlier is None else earlier.joined(hit)
    matched = _images(tx, hits)
    names = list(dict.fromkeys([name, *(item.id for item in known.values())]))
    scanned = frozenset(images_with_finding(tx, names)) - set(matched)
    images = _judged(tx, name, {**_scanned(tx, names, scanned), **matched})
    if not known:
        notes.append(f"no imported advisory is about {name}: the answer is what scans of builds found")
    if matcher.undecided:
        notes.append(f"{matcher.undecided} times a version could not be compared, and was taken as not affected")
    if unknown := inventories.images_without_system(tx):
        notes.append(
            f"{unknown} images state no operating system that is known here: only scans of their builds count"
        )
    return Found(images, scanned, tuple(notes))


def name_and_version(text: str) -> tuple[str, str]:
    """The parts of NAME@VERSION; the version is empty for NAME alone."""
    # npm's scopes begin with @
    at = text.find("@", 1)
    return (text, "") if at < 0 else (text[:at], text[at + 1 :])


def images_with_package(tx: Connection, text: str) -> Found:
    """The images that hold NAME or NAME@VERSION, also as the source of other packages. Raises BadQuestion."""
    name, version = name_and_version(text)
    scope_alone = name.startswith("@") and "/" not in name
    if (
        not name
        or scope_alone
        or len(text) > _LONGEST
        or not text.isprintable()
        or " " in text
        or (name != text and not version)
    ):
        raise BadQuestion(f"'{text[:80]}' is not a package; write NAME or NAME@VERSION, like openssl@3.0.11-1")
    found = {
        stored.number
        for kind in ("", *KINDS)
        for stored in inventories.packages_named(tx, [normal_name(kind, name)], (kind,), version=version)
    }
    return Found(_plain(tx, found))


def images_with_license(tx: Connection, license: str) -> Found:
    """The images with a package of this licence, as an SPDX identifier in any case. Raises BadQuestion."""
    if not license or len(license) > _LONGEST or not license.isprintable():
        raise BadQuestion(f"'{license[:80]}' is not a licence; write an SPDX identifier like GPL-3.0-only")
    wanted, found, stated = license.lower(), set(), False
    for stored in inventories.all_packages(tx):
        licenses = list(_licenses(stored.document))
        stated = stated or bool(licenses)
        if any(wanted == item.lower() or wanted in _WORDS.findall(item.lower()) for item in licenses):
            found.add(stored.number)
    if not stated:
        raise BadQuestion("no stored inventory states licences, so no answer is possible; build the images again")
    return Found(_plain(tx, found))


_WORDS: Final = re.compile(r"[a-z0-9][a-z0-9.+-]*")
"""The identifiers in an SPDX expression."""


def _licenses(document: Mapping[str, Any]) -> Iterator[str]:
    for member in ("licenses", "license"):
        value = document.get(member)
        for item in value if isinstance(value, list | tuple) else [value]:
            if isinstance(item, str) and item:
                yield item


def images_with_digest(tx: Connection, text: str) -> Found:
    """The images whose artifact (manifest or disk) has a digest. Raises BadQuestion."""
    if not _DIGEST.fullmatch(text):
        raise BadQuestion(f"'{text[:80]}' is not a digest; write sha256: and 64 hexadecimal digits")
    digest = f"sha256:{text.removeprefix('sha256:')}"
    return Found(dict.fromkeys(images_of_digest(tx, digest), ()))


@dataclass(frozen=True)
class _Hit:
    """What advisories say about a package."""

    severity: Severity
    fixed: str
    advisories: tuple[str, ...]

    def joined(self, other: _Hit) -> _Hit:
        named = dict.fromkeys((*self.advisories, *other.advisories))
        return _Hit(worst(self.severity, other.severity), self.fixed or other.fixed, tuple(named))


def _images(tx: Connection, hits: Mapping[str, Mapping[int, _Hit]]) -> dict[str, Sequence[HeldPackage]]:
    """Image -> packages, from operating system -> package -> what is wrong with it."""
    names = inventories.package_names(tx, {number for found in hits.values() for number in found})
    images: dict[str, list[HeldPackage]] = defaultdict(list)
    for system, found in hits.items():
        for holder in inventories.holders(tx, found, system):
            hit = found[holder.package]
            held = HeldPackage(
                *names[holder.package], severity=hit.severity, fixed=hit.fixed, advisories=hit.advisories
            )
            images[holder.image_arn].append(held)
    return dict(images)


def _scanned(tx: Connection, names: Sequence[str], arns: Iterable[str]) -> dict[str, Sequence[HeldPackage]]:
    """Image -> the packages in which the scan of its build found a vulnerability; none if it did not name them."""
    images: dict[str, dict[tuple[str, str, str], HeldPackage]] = {arn: {} for arn in arns}
    for finding in findings_named(tx, names, images):
        for item in finding.document.get("packages") or ():
            name, version, kind, fixed = (str(item.get(member) or "") for member in _MEMBERS)
            held = HeldPackage(
                name, version, kind, severity=finding.severity, fixed=fixed, advisories=(finding.vulnerability_id,)
            )
            key = (held.kind, held.name, held.version)
            earlier = images[finding.image_arn].get(key)
            if earlier is not None:
                # of another architecture or place, or under another name
                both = dict.fromkeys((*earlier.advisories, *held.advisories))
                held = replace(earlier, fixed=earlier.fixed or held.fixed, advisories=tuple(both))
            images[finding.image_arn][key] = held
    return {arn: tuple(found.values()) for arn, found in images.items()}


_MEMBERS: Final = ("name", "version", "kind", "fixed_version")
"""Of a package in a stored finding."""


def _judged(
    tx: Connection, name: str, images: Mapping[str, Sequence[HeldPackage]]
) -> Mapping[str, Sequence[HeldPackage]]:
    """The same images, with what statements (VEX) say about each package."""
    advisories = {id for items in images.values() for item in items for id in item.advisories}
    verdicts = Verdicts(tx, [name, *advisories])
    judged: dict[str, Sequence[HeldPackage]] = {}
    for arn, items in images.items():
        known = verdicts.of(arn)
        judged[arn] = [_with_verdict(item, name, known) for item in items] if known else items
    return judged


def _with_verdict(item: HeldPackage, name: str, verdicts: ImageVerdicts) -> HeldPackage:
    package = plain_package(item.name, item.version, item.kind)
    found = [verdicts.find(_names(name, id), package) for id in item.advisories or (name,)]
    stated = [verdict for verdict in found if verdict is not None]
    if not stated:
        return item
    open = [verdict for verdict in stated if not verdict.settles]
    shown = max(open or stated, key=lambda verdict: (verdict.stated, verdict.id))
    return replace(item, verdict=shown.reason, settled=not open and len(stated) == len(found))


def _names(name: str, advisory: str) -> Sequence[str]:
    """The names under which a verdict answers the question: advisories list other CVEs as related."""
    return [name] if name.startswith("CVE-") and advisory.startswith("CVE-") else [name, advisory]


def _plain(tx: Connection, numbers: Iterable[int]) -> dict[str, list[HeldPackage]]:
    wanted = set(numbers)
    names = inventories.package_names(tx, wanted)
    images: dict[str, list[HeldPackage]] = defaultdict(list)
    for holder in inventories.holders(tx, wanted):
        images[holder.image_arn].append(HeldPackage(*names[holder.package]))
    return images
