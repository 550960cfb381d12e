"""The same files as Debian's buildah makes, where it agrees with Docker's reference; else the row says why."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from imagesmith.processes import ProcessFailed
from testing.buildah import Buildah, opened_buildah
from testing.copy_support import CopyBench, tree

pytestmark = pytest.mark.tool


@dataclass(frozen=True)
class Row:
    """One COPY, and what is different."""

    sources: tuple[str, ...]
    to: str
    options: dict[str, Any] = field(default_factory=dict)
    docker: str = ""
    """Why the two differ, when Docker's result is another than buildah's."""

    def __str__(self) -> str:
        return f"{self.sources} {self.to} {self.options}"


ROWS = (
    Row(("/a.txt",), "/new"),
    Row(("/a.txt",), "/new/"),
    Row(("/a.txt", "/b.txt"), "/new/"),
    Row(("/a.txt",), "/etc"),
    Row(("/a.txt",), "/etc/"),
    Row(("/a.txt",), "/etc/over"),
    Row(("/d",), "/new"),
    Row(("/d/",), "/new/"),
    Row(("/d",), "/etc"),
    Row(("/d", "/d2"), "/new/"),
    Row(("/d/e/two",), "/p/q/r"),
    Row(("/*.txt",), "/new/"),
    Row(("/d/*",), "/new/"),
    Row(("/?.txt",), "/etc/"),
    Row(("/[ab].txt",), "/new/"),
    Row(("/link",), "/new"),
    Row(("/folder-link",), "/new"),
    Row(("/a.txt",), "/way/x"),
    Row(("/d2",), "/way"),
    Row(("/a.txt",), "/etc/link", docker="BuildKit follows a link that the destination names"),
    Row(("/a.txt",), "/new", {"chown": "5:6"}),
    Row(("/d",), "/new", {"chown": "ana:staff"}),
    Row(("/d",), "/new", {"chmod": "0640"}, docker="BuildKit gives the mode to folders that it makes too"),
    Row(("/a.txt",), "/new/sub/", {"chown": "7"}),
    Row(("/d/hard1", "/d/hard2"), "/new/"),
    Row(("/odd",), "/new"),
)

FAILING = (
    Row(("/nothing",), "/new"),
    Row(("/a.txt", "/nothing"), "/new/"),
    Row(("/nothing*",), "/new/", docker="a pattern of BuildKit may match nothing"),
    Row(("/a.txt",), "/new", {"chown": "eve"}),
    Row(("/a.txt",), "/etc/over/x"),
    Row(("/d",), "/etc/over"),
)


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    with opened_buildah(tmp_path_factory.mktemp("buildah")) as opened:
        yield opened


@pytest.fixture(scope="module")
def made(buildah: Buildah, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The root of the source, and a root with what buildah makes of each row in a folder of its number."""
    images = []
    for name, fill in (("oracle-source", fill_source), ("oracle-target", fill_target)):
        buildah.run("buildah", "from", "--name", name, "scratch")
        fill(Path(buildah.run("buildah", "mount", name)))
        images.append(buildah.run("buildah", "commit", "--quiet", name))
    context = tmp_path_factory.mktemp("context")
    lines = [f"FROM {images[0]} AS source"]
    for number, row in enumerate(ROWS):
        flags = "".join(f"--{name}={value} " for name, value in row.options.items())
        lines += [f"FROM {images[1]} AS row{number}", f"COPY --from=source {flags}{' '.join(row.sources)} {row.to}"]
    lines += ["FROM scratch", *(f"COPY --from=row{number} / /{number}/" for number in range(len(ROWS)))]
    (context / "Dockerfile").write_text("\n".join(lines) + "\n")
    argv = ["buildah", "bud", "--quiet", "--isolation=chroot", "--layers=false", "--pull-never", str(context)]
    built = buildah.run(*argv).splitlines()[-1]
    buildah.run("buildah", "from", "--pull-never", "--name", "oracle-built", built)
    source, target = (Path(buildah.run("buildah", "mount", f"oracle-{name}")) for name in ("source", "built"))
    return source, target


def fill_source(root: Path) -> None:
    for folder in ("d/e/f", "d2", "odd"):
        (root / folder).mkdir(parents=True)
    for number, name in enumerate(("a.txt", "b.txt", "d/one", "d/e/two", "d/e/f/three", "d2/four", "d/hard1")):
        (root / name).write_text(name)
        (root / name).chmod(0o600 + number)
        os.chown(root / name, 20 + number, 30 + number)
    os.link(root / "d/hard1", root / "d/hard2")
    (root / "d/e").chmod(0o711)
    os.chown(root / "d/e", 8, 9)
    (root / "link").symlink_to("a.txt")
    (root / "folder-link").symlink_to("/d")
    (root / "d/inner").symlink_to("../a.txt")
    (root / "odd" / "\udcffname").touch()
    (root / "odd/suid").touch()
    (root / "odd/suid").chmod(0o4755)
    os.setxattr(root / "odd/suid", "user.key", b"value")
    os.setxattr(root / "odd/suid", "security.capability", bytes.fromhex("0100000200200000" + "00" * 12))


def fill_target(root: Path) -> None:
    for folder in ("etc/e", "real"):
        (root / folder).mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nana:x:1000:1001::/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nstaff:x:50:\n")
    (root / "etc/over").write_text("over")
    (root / "etc/link").symlink_to("over")
    (root / "etc/e").chmod(0o700)
    (root / "etc/e/stays").touch()
    (root / "way").symlink_to("/real")


@pytest.mark.parametrize("number", range(len(ROWS)), ids=map(str, ROWS))
def test_buildah_makes_the_same_files(number: int, made: tuple[Path, Path], tmp_path: Path) -> None:
    """Names, types, modes, owners, attributes, links and content are those of a COPY in buildah's build."""
    row, (source, built) = ROWS[number], made
    bench = CopyBench(source, tmp_path / "target")
    bench.target.mkdir()
    fill_target(bench.target)
    result = bench.copy(*row.sources, to=row.to, **row.options)
    assert "failed" not in result, result
    ours, theirs = tree(bench.target), tree(built / str(number))
    different = {
        path: (ours.get(path), theirs.get(path)) for path in {*ours, *theirs} if ours.get(path) != theirs.get(path)
    }
    if row.docker:
        assert different, "buildah agrees now"
    else:
        assert different == {}


@pytest.mark.parametrize("row", FAILING, ids=str)
def test_buildah_fails_too(row: Row, buildah: Buildah, made: tuple[Path, Path], tmp_path: Path) -> None:
    """What cannot be copied is an error for both, where Docker says so."""
    bench = CopyBench(made[0], tmp_path / "target")
    bench.target.mkdir()
    fill_target(bench.target)
    ours = "failed" in bench.copy(*row.sources, to=row.to, **row.options)
    flags = [f"--{name}={value}" for name, value in row.options.items()]
    argv = ["buildah", "copy", "--quiet", "--from=oracle-source", *flags, "oracle-target", *row.sources, row.to]
    try:
        buildah.run(*argv)
        theirs = False
    except ProcessFailed:
        theirs = True
    assert (ours == theirs) == (not row.docker), (ours, theirs)
