"""Reading and describing many packages stops in their midst: every loop over them looks at the cancellation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from imagesmith.artifacts.rootfs import Root
from imagesmith.inspection.chisel import CHISEL
from imagesmith.inspection.inventory import Inventory, take_inventory
from imagesmith.inspection.packages import OsRelease, Package
from imagesmith.inspection.sbom.cyclonedx import cyclonedx_document
from imagesmith.inspection.sbom.spdx import spdx_document
from imagesmith.processes import Cancellation, Cancelled
from testing.inventories import rpm_database, rpm_header, wall, write
from testing.rpm_support import berkeley_database
from testing.sbom_samples import IMAGE

pytestmark = pytest.mark.tool
MANY = 30_000
_DPKG = "Package: p{0}\nStatus: install ok installed\nArchitecture: all\nVersion: 1\nDescription: x\n y\n\n"


class CancelledLater(Cancellation):
    """Cancelled at one of the looks that are taken at it."""

    def __init__(self, look: int) -> None:
        super().__init__()
        self.looks = 0
        self._look = look

    def check(self) -> None:
        self.looks += 1
        if self.looks == self._look:
            self.cancel()
        super().check()


def _headers() -> list[bytes]:
    return [rpm_header({1000: f"p{number}", 1001: "1", 1002: "1"}) for number in range(3000)]


def _make(root: Path, kind: str) -> None:
    if kind == "dpkg":
        write(root, {"var/lib/dpkg/status": "".join(_DPKG.format(number) for number in range(MANY))})
    elif kind == "apk":
        write(root, {"lib/apk/db/installed": "".join(f"P:p{number}\nV:1\nA:x\n\n" for number in range(MANY))})
    elif kind == "sqlite":
        rpm_database(root / "var/lib/rpm/rpmdb.sqlite", _headers())
    elif kind == "berkeley":
        (root / "var/lib/rpm").mkdir(parents=True)
        berkeley_database(_headers(), root / "var/lib/rpm/Packages")
    elif kind == "chisel":
        rows = [{"kind": "package", "name": f"p{number}", "version": json.dumps(number)} for number in range(MANY)]
        (root / CHISEL).parent.mkdir(parents=True)
        (root / CHISEL).write_bytes(wall(*rows))
    else:
        write(
            root, {f"srv/{number}/a-{number}.dist-info/METADATA": "Name: a\nVersion: 1\n" for number in range(400)}
        )


@pytest.mark.parametrize("kind", ["dpkg", "apk", "sqlite", "berkeley", "chisel", "walk"])
def test_an_inventory_is_cancelled_in_its_midst(tmp_path: Path, kind: str) -> None:
    """More looks are taken at the cancellation than an empty root takes, and at any of them the reading ends."""
    (tmp_path / "empty").mkdir()
    looks = []
    for name in ("empty", "full"):
        if name == "full":
            _make(tmp_path / name, kind)
        counting = CancelledLater(0)
        with Root(tmp_path / name) as root:
            take_inventory(root, counting)
        looks.append(counting.looks)
    assert looks[1] - looks[0] >= 8
    for look in (looks[0] // 2, (looks[0] + looks[1]) // 2):
        with Root(tmp_path / "full") as root, pytest.raises(Cancelled):
            take_inventory(root, CancelledLater(look))


@pytest.mark.parametrize("document", [cyclonedx_document, spdx_document])
def test_a_document_is_cancelled_in_its_midst(document: object) -> None:
    """A look is taken at each package."""
    assert callable(document)
    packages = tuple(Package(f"p{number}", "1", "", "s") for number in range(100))
    with pytest.raises(Cancelled):
        document(IMAGE, Inventory(OsRelease(), packages), CancelledLater(60))
