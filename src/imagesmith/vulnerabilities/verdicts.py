"""Which statement holds for a vulnerability of a package in an image.

    the product is the image, or a name of it without version or build, or `*`
    the product is a parent of the image, which has the same package: children inherit the verdict
    the product is a package, in whatever image

Of several that apply the last one holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from packageurl import PackageURL
from sqlalchemy.engine import Connection

from imagesmith.inspection.packages import OsRelease, Package
from imagesmith.inspection.purls import package_url
from imagesmith.store import ancestry, inventories
from imagesmith.store.vex import VexStatement, statements
from imagesmith.values.arn import Arn
from imagesmith.vulnerabilities.matching import read_package

PackageKey = tuple[str, str, str]
"""(kind, name, version) of a package."""


class Verdicts:
    """The statements that may be about one image."""

    def __init__(self, tx: Connection, image_arn: str) -> None:
        arn = Arn.parse(image_arn)
        by_name: dict[str, list[VexStatement]] = {}
        for item in statements(tx, arn.owner, arn.region):
            by_name.setdefault(item.vulnerability, []).append(item)
        self._by_name: Mapping[str, Sequence[VexStatement]] = by_name
        self._family: list[tuple[str, str, set[PackageKey] | None]] = []
        self._system = OsRelease()
        if by_name:
            self._read(tx, image_arn)

    def _read(self, tx: Connection, image_arn: str) -> None:
        stored = inventories.system_of(tx, image_arn)
        self._system = OsRelease(**stored) if stored is not None else OsRelease()
        self._family.append((image_arn, "", None))
        for item in ancestry.ancestors(tx, image_arn):
            if item.image_arn == image_arn:
                self._family[0] = (image_arn, item.digest, None)
                continue
            rows = inventories.get_inventory(tx, item.image_arn) or ()
            self._family.append((item.image_arn, item.digest, {_key(read_package(row)) for row in rows}))

    def find(self, names: Sequence[str], package: Package) -> VexStatement | None:
        """The statement that holds for a vulnerability, by any of its names; None without one."""
        found = [item for name in names for item in self._by_name.get(name, ()) if self._applies(item, package)]
        return max(found, key=lambda item: (item.stated, item.id), default=None)

    def _applies(self, item: VexStatement, package: Package) -> bool:
        if item.package and not self._is_package(item.package, package):
            return False
        if item.product == "*":
            return True
        if item.product.startswith("pkg:") and not item.product.startswith("pkg:oci/"):
            return self._is_package(item.product, package)
        return any(
            names_image(item.product, arn, digest) and (held is None or _key(package) in held)
            for arn, digest, held in self._family
        )

    def _is_package(self, text: str, package: Package) -> bool:
        """Whether a package-url, which may state less, is about a package."""
        own = package_url(package, self._system)
        try:
            wanted, known = PackageURL.from_string(text), PackageURL.from_string(own)
        except ValueError:
            return False
        qualifiers, given = dict(known.qualifiers or {}), dict(wanted.qualifiers or {})
        # an image whose system is not known has package-urls without it
        return (
            (wanted.type, wanted.name) == (known.type, known.name)
            and (not wanted.namespace or not known.namespace or wanted.namespace == known.namespace)
            and (not wanted.version or wanted.version == known.version)
            and all(qualifiers.get(name, value) == value for name, value in given.items())
        )


def names_image(product: str, image_arn: str, digest: str) -> bool:
    """Whether a product is an image: by its ARN, with or without version and build, or by `pkg:oci/...@DIGEST`."""
    if product.startswith("pkg:oci/"):
        try:
            return bool(digest) and PackageURL.from_string(product).version == digest
        except ValueError:
            return False
    return image_arn == product or image_arn.startswith(f"{product}/")


def _key(package: Package) -> PackageKey:
    return package.kind, package.name, package.version


def packages_of(tx: Connection, image_arn: str) -> Iterator[tuple[Package, str]]:
    """The packages of an image and their package-urls."""
    stored = inventories.system_of(tx, image_arn)
    system = OsRelease(**stored) if stored is not None else OsRelease()
    for row in inventories.get_inventory(tx, image_arn) or ():
        package = read_package(row)
        yield package, package_url(package, system)
