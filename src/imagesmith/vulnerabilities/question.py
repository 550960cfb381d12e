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

from imagesmith.inspection.packages import Package
from imagesmith.inspection.scanning.advisories import rated
from imagesmith.inspection.scanning.database import AdvisoryReader
from imagesmith.inspection.scanning.severities import Severity
from imagesmith.store import inventories
from imagesmith.store.ancestry import images_of_digest
from imagesmith.store.findings import images_with_finding
from imagesmith.values.package_names import normal_name
from imagesmith.vulnerabilities.matching import KINDS, FleetMatcher
from imagesmith.vulnerabilities.verdicts import Verdicts

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
    held: dict[str, dict[int, HeldPackage]] = defaultdict(dict)
    for match in matcher.matches(reader.affected_by(list(known)) if reader is not None else ()):
        advisory = rated(known[match.record], match.affected)
        earlier = held[match.system].get(match.package)
        if earlier is None or not earlier.fixed:
            held[match.system][match.package] = HeldPackage("", "", severity=advisory.severity, fixed=match.fixed)
    names = [name, *(item.id for item in known.values())]
    images = _judged(tx, list(dict.fromkeys(names)), _images(tx, held))
    scanned = set(images_with_finding(tx, [name, *(item.id for item in known.values())])) - set(images)
    if not known:
        notes.append(f"no imported advisory is about {name}: the answer is what scans of builds found")
    if matcher.undecided:
        notes.append(f"{matcher.undecided} times a version could not be compared, and was taken as not affected")
    if unknown := inventories.images_without_system(tx):
        notes.append(
            f"{unknown} images state no operating system that is known here: only scans of their builds count"
        )
    return Found({**dict.fromkeys(scanned, ()), **images}, frozenset(scanned), tuple(notes))


def images_with_package(tx: Connection, text: str) -> Found:
    """The images that hold NAME or NAME@VERSION, also as the source of other packages. Raises BadQuestion."""
    # npm's scopes begin with @
    at = text.find("@", 1)
    name, version = (text, "") if at < 0 else (text[:at], text[at + 1 :])
    scope_alone = name.startswith("@") and "/" not in name
    if (
        not name
        or scope_alone
        or len(text) > _LONGEST
        or not text.isprintable()
        or " " in text
        or (at >= 0 and not version)
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


def _images(tx: Connection, held: Mapping[str, Mapping[int, HeldPackage]]) -> dict[str, list[HeldPackage]]:
    """Image -> packages, from operating system -> package -> what is wrong with it."""
    names = inventories.package_names(tx, {number for found in held.values() for number in found})
    images: dict[str, list[HeldPackage]] = defaultdict(list)
    for system, found in held.items():
        for holder in inventories.holders(tx, found, system):
            name, version, kind = names[holder.package]
            why = found[holder.package]
            images[holder.image_arn].append(replace(why, name=name, version=version, kind=kind))
    return images


def _judged(
    tx: Connection, names: Sequence[str], images: Mapping[str, Sequence[HeldPackage]]
) -> Mapping[str, Sequence[HeldPackage]]:
    """The same images, with what statements (VEX) say about each package."""
    known = Verdicts(tx, names)
    judged: dict[str, list[HeldPackage]] = {}
    for arn, items in images.items():
        verdicts = known.of(arn)
        found = [verdicts.find(names, _package(item)) for item in items]
        judged[arn] = [
            item if verdict is None else replace(item, verdict=verdict.reason, settled=verdict.settles)
            for item, verdict in zip(items, found, strict=True)
        ]
    return judged


def _package(item: HeldPackage) -> Package:
    return Package(name=item.name, version=item.version, architecture="", source="", kind=item.kind)


def _plain(tx: Connection, numbers: Iterable[int]) -> dict[str, list[HeldPackage]]:
    wanted = set(numbers)
    names = inventories.package_names(tx, wanted)
    images: dict[str, list[HeldPackage]] = defaultdict(list)
    for holder in inventories.holders(tx, wanted):
        images[holder.image_arn].append(HeldPackage(*names[holder.package]))
    return images
