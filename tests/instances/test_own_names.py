"""The root of a disk keeps its /etc/hosts and /etc/resolv.conf, whatever they are and whatever becomes of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from imagesmith.instances.own_names import lend_names, return_names

OURS = "nameserver 10.0.2.3\n"
HOSTS = "127.0.0.1 localhost\n"
STUB = "../run/systemd/resolve/stub-resolv.conf"

Change = Callable[[Path], object]


def tree(root: Path) -> dict[str, str]:
    """Every file of a root with what it holds, links with where they lead."""
    found = {}
    for place in sorted(root.rglob("*")):
        name = str(place.relative_to(root))
        found[name] = (
            f"-> {place.readlink()}" if place.is_symlink() else "" if place.is_dir() else place.read_text()
        )
    return found


def nothing(_: Path) -> None: ...


def stub(root: Path) -> None:
    (root / "etc/resolv.conf").symlink_to(STUB)


def absolute(root: Path) -> None:
    (root / "etc/resolv.conf").symlink_to("/run/resolvconf/resolv.conf")


def chain(root: Path) -> None:
    (root / "etc/resolvconf").mkdir()
    (root / "etc/resolvconf/run").symlink_to("/run/resolvconf")
    (root / "etc/resolv.conf").symlink_to("resolvconf/run/resolv.conf")


def own(root: Path) -> None:
    (root / "etc/resolv.conf").write_text("nameserver 192.0.2.1\n")
    (root / "etc/hosts").write_text("192.0.2.7 of-the-image\n")


def outside(root: Path) -> None:
    """A link that leads out of the root stays in it."""
    (root / "etc/resolv.conf").symlink_to("../../../../etc/resolv.conf.test")


PARENTS = [nothing, stub, absolute, chain, own, outside]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    place = tmp_path / "root"
    (place / "etc").mkdir(parents=True)
    (place / "run").mkdir()
    return place


@pytest.mark.parametrize("parent", PARENTS)
def test_names_resolve_and_nothing_of_that_stays(root: Path, parent: Change) -> None:
    """While they are lent both files read as they should; afterwards the root is what it was, times included."""
    parent(root)
    before = tree(root)
    times = {place: place.lstat().st_mtime_ns for place in root.rglob("*") if place.is_file()}
    lent = lend_names(root, resolver=OURS, hosts=HOSTS)
    inside = [text for name, text in tree(root).items() if text == OURS]
    assert inside == [OURS]
    assert (root / "etc/hosts").read_text() == before.get("etc/hosts", HOSTS)
    return_names(root, lent)
    assert tree(root) == before
    assert {place: place.lstat().st_mtime_ns for place in times} == times


def replace_link(root: Path) -> None:
    (root / "etc/resolv.conf").unlink()
    (root / "etc/resolv.conf").write_text("nameserver 9.9.9.9\n")


def by_rename(root: Path) -> None:
    (root / "etc/new").write_text("nameserver 9.9.9.9\n")
    (root / "etc/new").rename(root / "etc/resolv.conf")


@pytest.mark.parametrize("parent", PARENTS)
@pytest.mark.parametrize("change", [replace_link, by_rename])
def test_what_a_component_writes_stays(root: Path, parent: Change, change: Change) -> None:
    """A new file in the place of what was there, by either way of writing it."""
    parent(root)
    lent = lend_names(root, resolver=OURS, hosts=HOSTS)
    change(root)
    with (root / "etc/hosts").open("a") as file:
        file.write("192.0.2.9 added\n")
    return_names(root, lent)
    kept = (root / "etc/resolv.conf").read_text()
    assert not (root / "etc/resolv.conf").is_symlink() and kept == "nameserver 9.9.9.9\n"
    own_lines = "192.0.2.7 of-the-image\n" if parent is own else ""
    assert (root / "etc/hosts").read_text() == f"{own_lines}192.0.2.9 added\n"
    assert OURS not in tree(root).values()


def test_lines_that_a_component_adds_stand_beside_those_of_the_image(root: Path) -> None:
    """Our name server is not among them, before or after the added lines."""
    own(root)
    lent = lend_names(root, resolver=OURS, hosts=HOSTS)
    text = (root / "etc/resolv.conf").read_text()
    (root / "etc/resolv.conf").write_text(f"search example.org\n{text}options rotate\n")
    return_names(root, lent)
    wanted = "search example.org\nnameserver 192.0.2.1\noptions rotate\n"
    assert (root / "etc/resolv.conf").read_text() == wanted


def test_what_is_removed_stays_removed(root: Path) -> None:
    """A component may decide that its image has neither file."""
    own(root)
    lent = lend_names(root, resolver=OURS, hosts=HOSTS)
    (root / "etc/hosts").unlink()
    (root / "etc/resolv.conf").unlink()
    return_names(root, lent)
    assert tree(root) == {"etc": "", "run": ""}


def test_a_root_without_a_network_lends_nothing(root: Path) -> None:
    """There is no name server to tell of."""
    own(root)
    assert lend_names(root, resolver="", hosts=HOSTS) == ()
