"""Which statement holds for a vulnerability of a package in an image.

    the product is the image, or a name of it without version or build, or `*`
    the product is a parent of the image, which has the same package: children inherit the verdict
    the product is a package, in whatever image

Of several that apply the last one holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from sqlalchemy.engine import Connection

from imagesmith.inspection.packages import OsRelease, Package
from imagesmith.inspection.purls import package_url
from imagesmith.store import ancestry, inventories
from imagesmith.store.vex import VexStatement, statements
from imagesmith.values.arn import Arn
from imagesmith.vulnerabilities.matching import read_package
from imagesmith.vulnerabilities.products import is_image, names_image, names_package

PackageKey = tuple[str, str, str]
"""(kind, name, version) of a package."""


@dataclass(frozen=True)
class _Relative:
    """The image itself (`held` is None), or an ancestor that a statement names, with its packages."""

    arn: str
    digest: str
    held: Set[PackageKey] | None = None


@dataclass(frozen=True)
class _Stated:
    """The statements of an account and Region by vulnerability, and those of their products that are images."""

    by_name: Mapping[str, Sequence[VexStatement]]
    images: Set[str]


class Verdicts:
    """What holds in any number of images about the vulnerabilities of these names.

    The statements of an account and Region, and the inventory of an ancestor that one of them names, are read once.
    """

    def __init__(self, tx: Connection, names: Sequence[str]) -> None:
        self._tx = tx
        self._names = sorted(set(names))
        self._stated: dict[tuple[str, str], _Stated] = {}
        self._held: dict[str, Set[PackageKey]] = {}

    def of(self, image_arn: str) -> ImageVerdicts:
        """Reads what find() needs; that reads nothing more."""
        arn = Arn.parse(image_arn)
        stated = self._statements(arn.owner, arn.region)
        if not stated.by_name:
            return ImageVerdicts(stated.by_name, (), OsRelease())
        family = tuple(self._family(image_arn, stated.images))
        return ImageVerdicts(stated.by_name, family, _system_of(self._tx, image_arn))

    def _statements(self, account: str, region: str) -> _Stated:
        if (account, region) not in self._stated:
            by_name: dict[str, list[VexStatement]] = {}
            found = statements(self._tx, account, region, self._names)
            for item in found:
                by_name.setdefault(item.vulnerability, []).append(item)
            images = frozenset(item.product for item in found if is_image(item.product))
            self._stated[account, region] = _Stated(by_name, images)
        return self._stated[account, region]

    def _family(self, image_arn: str, products: Set[str]) -> Iterator[_Relative]:
        if not products:
            return
        own = _Relative(image_arn, "")
        for item in ancestry.ancestors(self._tx, image_arn):
            if item.image_arn == image_arn:
                own = _Relative(image_arn, item.digest)
            elif any(names_image(product, item.image_arn, item.digest) for product in products):
                yield _Relative(item.image_arn, item.digest, self._packages(item.image_arn))
        yield own

    def _packages(self, image_arn: str) -> Set[PackageKey]:
        if image_arn not in self._held:
            rows = inventories.get_inventory(self._tx, image_arn) or ()
            self._held[image_arn] = frozenset(_key(read_package(row)) for row in rows)
        return self._held[image_arn]


class ImageVerdicts:
    """The statements that may be about one image."""

    def __init__(
        self, stated: Mapping[str, Sequence[VexStatement]], family: Sequence[_Relative], system: OsRelease
    ) -> None:
        self._stated = stated
        self._family = family
        self._system = system

    def __bool__(self) -> bool:
        """Whether any statement may be about it."""
        return bool(self._stated)

    def find(self, names: Sequence[str], package: Package) -> VexStatement | None:
        """The statement that holds for a vulnerability, by any of its names; None without one."""
        found = [item for name in names for item in self._stated.get(name, ()) if self._applies(item, package)]
        return max(found, key=lambda item: (item.stated, item.id), default=None)

    def _applies(self, item: VexStatement, package: Package) -> bool:
        if item.package and not names_package(item.package, package, self._system):
            return False
        if item.product == "*":
            return True
        if not is_image(item.product):
            return names_package(item.product, package, self._system)
        return any(
            names_image(item.product, one.arn, one.digest) and (one.held is None or _key(package) in one.held)
            for one in self._family
        )


def _key(package: Package) -> PackageKey:
    return package.kind, package.name, package.version


def _system_of(tx: Connection, image_arn: str) -> OsRelease:
    """The system of an image; without members where its inventory states none."""
    return OsRelease(**(inventories.system_of(tx, image_arn) or {}))


def packages_of(tx: Connection, image_arn: str) -> Iterator[tuple[Package, str]]:
    """The packages of an image and their package-urls."""
    system = _system_of(tx, image_arn)
    for row in inventories.get_inventory(tx, image_arn) or ():
        package = read_package(row)
        yield package, package_url(package, system)
