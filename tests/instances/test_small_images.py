"""What a build adds to an image: what its commands made, and nothing of the places that a sandbox mounts over."""

from __future__ import annotations

import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.instances.command import Command
from imagesmith.instances.container import ContainerInstance
from imagesmith.instances.mount_targets import mount_targets
from imagesmith.instances.protocol import InstanceError
from testing.containers import make_tiny_root
from testing.dockerfile_support import PARENT, DockerfileBench

pytestmark = pytest.mark.tool

MakeImage = Callable[[Callable[[Path], None]], str]


@pytest.fixture
def make_image(container_storage: ContainerStorage) -> Iterator[MakeImage]:
    """An image of what a function writes into its root."""
    made: list[str] = []

    def make(fill: Callable[[Path], None]) -> str:
        container_storage.create("small", "scratch")
        try:
            fill(container_storage.mount("small"))
            made.append(container_storage.commit("small"))
        finally:
            container_storage.remove("small")
        return made[-1]

    yield make
    for image in made:
        container_storage.remove_image(image)


def static(root: Path) -> None:
    """One static program and nothing else."""
    source = "int main(){return 0;}\n"
    subprocess.run(["gcc", "-static", "-o", str(root / "hello"), "-xc", "-"], input=source.encode(), check=True)


def shell_only(root: Path) -> None:
    """A shell and tools; no /etc, /tmp, /proc, /dev."""
    make_tiny_root(root)
    for name in ("os-release", "passwd", "group"):
        (root / "etc" / name).unlink()
    (root / "etc").rmdir()


def entries(storage: ContainerStorage, image: str, folder: Path) -> list[dict[str, tarfile.TarInfo]]:
    """The entries of every layer, by name."""
    found = []
    for layer in storage.layer_blobs(image):
        with tarfile.open(storage.layer_blob(image, layer)) as archive:
            found.append({member.name.strip("/"): member for member in archive})
    return found


def run(storage: ContainerStorage, image: str, lines: str) -> str:
    return DockerfileBench(storage, image, "small-run").build(lines)


@pytest.mark.parametrize("lines", ['RUN ["/hello"]\n', "LABEL a=b\n", 'RUN ["/hello"]\nENV A=b\nRUN ["/hello"]\n'])
def test_a_dockerfile_that_changes_no_file_adds_no_layer(
    container_storage: ContainerStorage, make_image: MakeImage, tmp_path: Path, lines: str
) -> None:
    """A static program on scratch stays the only file, in the only layer."""
    image = run(container_storage, make_image(static), lines)
    assert [list(layer) for layer in entries(container_storage, image, tmp_path)] == [["hello"]]
    config = container_storage.image_config(image)
    made = [entry for entry in config["history"] if not entry.get("empty_layer")]
    assert len(made) == len(config["rootfs"]["diff_ids"]) == 1
    again = run(
        container_storage,
        image,
        'COPY --from=0 /hello /second\nRUN ["/second"]\n'.replace("=0", "=one").replace(
            "COPY", f"FROM {PARENT} AS one\nFROM {PARENT}\nCOPY"
        ),
    )
    assert [list(layer) for layer in entries(container_storage, again, tmp_path)][1:] == [["second"]]


def test_a_run_leaves_what_it_made_and_no_more(
    container_storage: ContainerStorage, make_image: MakeImage, tmp_path: Path
) -> None:
    """A file that a RUN writes into a folder which the sandbox made is kept, the empty files beside it are not."""
    image = run(
        container_storage, make_image(shell_only), "RUN echo x > /etc/mine; mkdir /made; ls /proc >/dev/null\n"
    )
    top = entries(container_storage, image, tmp_path)[1]
    assert sorted(top) == ["etc", "etc/mine", "made"]


def test_a_run_keeps_the_files_that_it_sees_others_over(
    container_storage: ContainerStorage, make_image: MakeImage, tmp_path: Path
) -> None:
    """Links stay links and lead to nothing new, own files keep their bytes, and /etc its time."""

    def fill(root: Path) -> None:
        make_tiny_root(root)
        (root / "etc/hosts").touch()
        (root / "etc/hostname").write_text("mine\n")
        (root / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
        (root / "proc").mkdir()
        os.utime(root / "etc", (1_000_000_000, 1_000_000_000))

    image = run(container_storage, make_image(fill), "RUN echo in >> /etc/hosts; echo x > /made\n")
    below, top = entries(container_storage, image, tmp_path)
    assert {name for name in top if not name.startswith("etc")} <= {"made", "proc"}
    assert set(top) <= {"made", "proc", "etc"}
    assert all(top[name].mtime == 1_000_000_000 for name in top if name == "etc")
    assert below["etc/hosts"].size == 0 and below["etc/resolv.conf"].issym()


def test_an_instance_leaves_what_it_made_and_no_more(
    container_storage: ContainerStorage, make_image: MakeImage, tmp_path: Path
) -> None:
    """Folders that the sandbox made are gone unless something is in them; links that it replaced are back."""
    image = make_image(shell_only)
    for number, (script, expected) in enumerate(
        [
            ("true", []),
            ("echo x > /tmp/x; rm /tmp/x", []),
            ("echo x > /tmp/x", ["tmp", "tmp/x"]),
            ("echo x > /etc/x", ["etc", "etc/x"]),
            ("mkdir /etc/d; ls /proc /dev >/dev/null", ["etc", "etc/d"]),
        ]
    ):
        instance = ContainerInstance.launch(container_storage, image, name=f"small-{number}", network="none")
        try:
            assert instance.run(Command(["sh", "-c", script])).returncode == 0
            made = instance.commit()
        finally:
            instance.close()
        layers = entries(container_storage, made, tmp_path)
        assert sorted(name for layer in layers[1:] for name in layer) == expected, script
        assert len(layers) == (2 if expected else 1)


def test_an_instance_without_a_shell_starts_and_is_committed(
    container_storage: ContainerStorage, make_image: MakeImage, tmp_path: Path
) -> None:
    """Only a command in it fails, and says why; nothing is added to it."""
    instance = ContainerInstance.launch(container_storage, make_image(static), name="small-static", network="none")
    try:
        assert not instance.has_shell and instance.unlimited == ()
        with pytest.raises(InstanceError, match="no /bin/sh: components need a POSIX shell"):
            instance.run(Command(["/hello"]))
        made = instance.commit(labels={"a": "b"})
    finally:
        instance.close()
    assert [list(layer) for layer in entries(container_storage, made, tmp_path)] == [["hello"]]
    assert container_storage.image_config(made)["config"]["Labels"] == {"a": "b"}


@pytest.mark.parametrize(
    ("links", "path", "expected"),
    [
        ({}, "/etc/hosts", "etc/hosts"),
        ({}, "/a/b/c", "a/b/c"),
        ({"link": "etc"}, "/link/z", "etc/z"),
        ({"link": "/etc"}, "/link/z", "etc/z"),
        ({"up": "../../.."}, "/up/z", "z"),
    ],
)
def test_targets_are_made_inside_the_root(tmp_path: Path, links: dict[str, str], path: str, expected: str) -> None:
    """Links of the image lead to nothing outside of it; afterwards the root is as it was."""
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    for name, target in links.items():
        (root / name).symlink_to(target)
    before = sorted(str(place) for place in tmp_path.rglob("*"))
    with mount_targets(root, [(path, False)]):
        assert (root / expected).is_file()
    assert sorted(str(place) for place in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("links", [{"etc/r": "/run/x/y"}, {"etc/r": "../../../../v"}, {"etc/r": "r"}])
def test_a_target_that_is_a_link_to_nothing_is_refused(tmp_path: Path, links: dict[str, str]) -> None:
    """With its path."""
    (tmp_path / "etc").mkdir()
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    with pytest.raises(InstanceError, match="/etc/r cannot be made"), mount_targets(tmp_path, [("/etc/r", True)]):
        pass


def test_nothing_is_removed_through_a_link_of_the_image(tmp_path: Path) -> None:
    """A RUN may put a link where a folder was made, or bytes into a file: what others have there stays."""
    root, victim = tmp_path / "root", tmp_path / "victim"
    root.mkdir()
    victim.mkdir()
    (victim / "hosts").touch()
    targets = [("/etc/hosts", False), ("/proc", True), ("/run/env", False), ("/kept/x", True), ("/full", False)]
    with mount_targets(root, targets):
        (root / "etc/hosts").unlink()
        for name in ("etc", "proc"):
            (root / name).rmdir()
            (root / name).symlink_to(victim)
        (root / "kept/other").touch()
        (root / "full").write_text("x")
    assert (victim / "hosts").exists()
    assert sorted(place.name for place in root.iterdir()) == ["etc", "full", "kept", "proc"]
