"""Parents of builds: the managed base, registries, layouts and archives, images of our own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imagesmith.artifacts.bases import Bases, ParentError
from imagesmith.artifacts.layout import OciLayout
from imagesmith.artifacts.rootfs import Root
from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.instances.command import Command
from imagesmith.instances.container import ContainerInstance
from imagesmith.managed.bases import ManagedBase, managed_base, managed_bases
from imagesmith.namespaces.id_maps import FIRST_ID, MOST_RANGES, SIZE
from imagesmith.processes import Cancellation, Cancelled
from imagesmith.settings import Registry
from testing.containers import exported, opened_storage
from testing.leaks import descendants
from testing.registry_support import PASSWORD, USER, RunningRegistry

pytestmark = pytest.mark.tool


@pytest.fixture
def bases(container_storage: ContainerStorage, layout: OciLayout, tmp_path: Path) -> Bases:
    return Bases(container_storage, layout, folder=tmp_path / "bases")


@pytest.fixture
def archive(container_storage: ContainerStorage, tiny_image: str, tmp_path: Path) -> Path:
    """A folder of local images: an OCI layout, an OCI archive and a docker archive of the tiny image."""
    folder = tmp_path / "local"
    folder.mkdir()
    source = exported(container_storage, tiny_image, tmp_path / "exported")
    for target in ("oci:{}/layout:tiny", "oci-archive:{}/tiny.tar", "docker-archive:{}/docker.tar"):
        argv = ["skopeo", "copy", "--quiet", source, target.format(folder)]
        container_storage.tool(argv, what="making an archive")
    return folder


class Managed:
    """The managed base, made once in this module, with what was said meanwhile."""

    def __init__(self, folder: Path, storage: ContainerStorage) -> None:
        self.storage = storage
        self.layout = OciLayout(folder / "oci")
        self.moment = 1_800_000_000.0
        self.folder = folder
        self.bases = self.again()
        base = managed_base("debian-x86-12")
        assert base is not None
        self.base: ManagedBase = base
        self.lines: list[str] = []
        self.results: list[Any] = []
        threads = [threading.Thread(target=self.ask) for _ in range(2)]
        self.users: set[int] = set()
        """Which users of this machine dpkg was, with the scripts of packages that it runs."""
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            self.watch()
            threads[0].join(0.1)
            threads[1].join(0.1)

    def watch(self) -> None:
        for pid, words in descendants(os.getpid()).items():
            if words.startswith(("dpkg ", "/usr/bin/dpkg ")):
                with contextlib.suppress(OSError):
                    self.users.add(Path(f"/proc/{pid}").stat().st_uid)

    def again(self, **options: Any) -> Bases:
        return Bases(self.storage, self.layout, folder=self.folder / "bases", now=lambda: self.moment, **options)

    def ask(self) -> None:
        try:
            self.results.append(self.bases.managed(self.base, on_line=self.lines.append))
        except Exception as error:
            self.results.append(error)


@pytest.fixture(scope="module")
def managed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Managed]:
    folder = tmp_path_factory.mktemp("managed")
    with opened_storage(folder) as storage:
        yield Managed(folder, storage)


def test_two_builds_that_need_a_base_make_it_once(managed: Managed) -> None:
    """The second one waits for the first and gets the same image."""
    first, second = managed.results
    assert first == second, managed.results
    assert len([line for line in managed.lines if line.startswith("bootstrapping")]) == 1
    assert managed.layout.resolve(first.reference) == first.digest
    assert managed.layout.read(first.digest).image_id == first.image_id
    assert managed.storage.has_image(first.image_id) and managed.storage.containers() == ()
    assert list((managed.folder / "bases").glob("bootstrap-*")) == []


def test_the_base_is_a_clean_debian(managed: Managed) -> None:
    """Debian 12 with nothing of this machine and of the moment in it."""
    parent = managed.results[0]
    with managed.layout.rootfs(managed.storage, parent.digest, name="look") as place, Root(place) as root:
        assert b'VERSION_ID="12"' in root.read("/etc/os-release")
        assert root.read("/etc/machine-id") == b""
        assert (place / "tmp").stat().st_mode & 0o7777 == 0o1777
        assert not {"resolv.conf", "hostname"} & set(root.list("/etc"))
        assert root.list("/var/lib/apt/lists") in ([], ["auxfiles", "lock", "partial"], ["lock", "partial"])
        assert root.list("/var/log/apt") == [] and root.list("/var/cache/apt/archives") in ([], ["lock", "partial"])
        assert b"bookworm-security" in root.read("/etc/apt/sources.list")
        assert b"policy-rc.d" in " ".join(root.list("/usr/sbin")).encode()
        assert root.list("/usr/share/man/man1") == [] and "LC_MESSAGES" not in root.list("/usr/share/locale")
        assert b"copyright" in " ".join(root.list("/usr/share/doc/apt")).encode()
        packages = root.read("/var/lib/dpkg/status").decode()
        assert "Package: ca-certificates\n" in packages and "Package: perl\n" not in packages
        assert not [name for name in root.list("/etc/dpkg/dpkg.cfg.d") if "mmdebstrap" in name]
    config = managed.layout.config(parent.digest)
    assert config["created"].startswith("2027-01-15") and config["config"]["Cmd"] == ["/bin/bash"]


def test_no_script_of_a_package_is_root_outside(managed: Managed) -> None:
    """A base is made in a user namespace, and its files are root's all the same."""
    assert managed.users and all(FIRST_ID <= user < FIRST_ID + MOST_RANGES * SIZE for user in managed.users)
    parent = managed.results[0]
    with managed.layout.rootfs(managed.storage, parent.digest, name="look") as place:
        assert {(place / name).stat().st_uid for name in ("", "etc/passwd", "usr/bin/dpkg")} == {0}
        assert (place / "dev/null").is_char_device()


def test_packages_install_on_the_base(managed: Managed) -> None:
    """The mirror is reached from inside, by the names and keys that the base carries."""
    instance = ContainerInstance.launch(managed.storage, managed.results[0].image_id, name="install")
    try:
        for argv in (["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", "tini"]):
            done = instance.run(Command(argv, timeout=200, env={"DEBIAN_FRONTEND": "noninteractive"}))
            assert done.returncode == 0, done.tail()
        assert instance.run(Command(["tini", "--version"])).returncode == 0
    finally:
        instance.close()


def test_a_base_that_is_at_hand_is_taken_until_it_is_too_old(managed: Managed) -> None:
    """Within the age limit nothing is made; beyond it a new base is begun."""
    lines: list[str] = []
    young = managed.again(max_age_seconds=100)
    managed.moment += 99
    assert young.managed(managed.base, on_line=lines.append) == managed.results[0]
    assert "is available" in lines[-1]
    managed.moment += 2
    cancellation = Cancellation()

    def on_line(line: str) -> None:
        lines.append(line)
        cancellation.cancel()

    with pytest.raises(Cancelled):
        young.managed(managed.base, on_line=on_line, cancellation=cancellation)
    assert lines[-1].startswith("bootstrapping")
    # and what was there is still there for builds that are content with its age
    assert managed.again().managed(managed.base, on_line=lines.append) == managed.results[0]


def test_a_base_comes_back_from_the_layout(managed: Managed, tmp_path: Path) -> None:
    """A storage that was emptied is filled again without bootstrapping."""
    parent = managed.results[0]
    with opened_storage(tmp_path) as other:
        bases = Bases(other, managed.layout, folder=managed.folder / "bases", now=lambda: managed.moment)
        lines: list[str] = []
        assert bases.managed(managed.base, on_line=lines.append) == parent
        assert not any(line.startswith("bootstrapping") for line in lines)


def test_an_unreachable_mirror_is_named(
    container_storage: ContainerStorage, layout: OciLayout, tmp_path: Path
) -> None:
    """The error says which mirror, what apt said, and where it is set."""
    bases = Bases(container_storage, layout, folder=tmp_path / "bases", debian_mirror="http://127.0.0.1:9/debian")
    base = managed_base("debian-x86-12")
    assert base is not None
    with pytest.raises(ParentError, match=r"(?s)http://127\.0\.0\.1:9/debian.*debian_mirror"):
        bases.managed(base, on_line=lambda line: None)
    assert layout.references() == {} and list((tmp_path / "bases").glob("bootstrap-*")) == []


def test_every_managed_base_is_well_formed() -> None:
    """Names are unique, versions have three nodes, and patterns are patterns."""
    found = managed_bases()
    assert len({base.name for base in found}) == len(found) > 0
    assert all(base.version.count(".") == 2 and base.os_version and base.platform == "Linux" for base in found)
    assert managed_base("no-such-base") is None


@pytest.mark.parametrize(
    "reference", ["oci:{}/layout:tiny", "oci-archive:{}/tiny.tar", "docker-archive:{}/docker.tar"]
)
def test_local_images_are_taken_from_allowed_folders(bases: Bases, archive: Path, reference: str) -> None:
    """Every local form gives an image of the storage and its digest."""
    parent = bases.local(reference.format(archive), [archive])
    assert len(parent.image_id) == 64 and parent.digest.startswith("sha256:")
    assert parent.reference == reference.format(archive)


@pytest.mark.parametrize(
    "reference", ["oci:{}/layout:tiny", "oci-archive:{}/../local/tiny.tar", "docker-archive:{}/link.tar"]
)
def test_local_images_elsewhere_are_refused(bases: Bases, archive: Path, tmp_path: Path, reference: str) -> None:
    """A path outside, one that climbs out and a link that leads out are refused alike."""
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (allowed / "link.tar").symlink_to(archive / "docker.tar")
    place = allowed if "link" in reference else archive
    with pytest.raises(ParentError, match="outside the folders"):
        bases.local(reference.format(place), [allowed])
    with pytest.raises(ParentError, match="allowed: none"):
        bases.local(reference.format(place), [])


def test_a_missing_or_broken_archive_is_named(bases: Bases, tmp_path: Path) -> None:
    """The reference is in the message."""
    with pytest.raises(ParentError, match=r"absent\.tar does not exist"):
        bases.local(f"oci-archive:{tmp_path}/absent.tar", [tmp_path])
    (tmp_path / "broken.tar").write_bytes(b"no archive")
    with pytest.raises(ParentError, match=r"broken\.tar cannot be read"):
        bases.local(f"oci-archive:{tmp_path}/broken.tar", [tmp_path])


def test_an_image_of_our_own_is_found_by_its_digest(
    bases: Bases, layout: OciLayout, container_storage: ContainerStorage, tiny_image: str
) -> None:
    """What the layout holds can be built on; what it does not hold is named."""
    artifact = layout.export_image(container_storage, tiny_image, "mine")
    assert bases.image(artifact.digest, "arn:mine").image_id == tiny_image
    with pytest.raises(ParentError, match="arn:other"):
        bases.image("sha256:" + "0" * 64, "arn:other")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RunningRegistry]:
    running = RunningRegistry(tmp_path / "registry", login=True)
    running.start()
    yield running
    running.kill()


def test_an_image_of_a_registry_is_pulled_with_the_credentials_of_the_settings(
    bases: Bases, container_storage: ContainerStorage, tiny_image: str, registry: RunningRegistry, tmp_path: Path
) -> None:
    """With the right password it is pulled, by tag and by digest; without, the error names the reference."""
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    settings = Registry(registry.host, USER, str(tmp_path / "password"), insecure=True)
    reference = f"{registry.host}/team/tiny:1"
    subprocess.run(
        ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"--dest-creds={USER}:{PASSWORD}",
         exported(container_storage, tiny_image, tmp_path / "exported"), f"docker://{reference}"],
        env=container_storage.environment, check=True,
    )  # fmt: skip
    parent = bases.registry(reference, registry=settings)
    assert container_storage.has_image(parent.image_id) and parent.digest.startswith("sha256:")
    assert parent.digest != f"sha256:{parent.image_id}"
    by_digest = bases.registry(f"{registry.host}/team/tiny@{parent.digest}", registry=settings)
    assert by_digest.image_id == parent.image_id and by_digest.digest == parent.digest
    with pytest.raises(ParentError, match="team/tiny:2"):
        bases.registry(f"{registry.host}/team/tiny:2", registry=settings)
    without = Registry(registry.host, insecure=True)
    with pytest.raises(ParentError, match="team/tiny:1"):
        bases.registry(reference, registry=without)


def test_credentials_are_never_arguments(bases: Bases, registry: RunningRegistry, tmp_path: Path) -> None:
    """The failing command, which is shown to people, does not hold the password."""
    (tmp_path / "password").write_text("wrong-password\n")
    settings = Registry(registry.host, USER, str(tmp_path / "password"), insecure=True)
    with pytest.raises(ParentError) as caught:
        bases.registry(f"{registry.host}/team/tiny:1", registry=settings)
    assert "wrong-password" not in str(caught.value) and "wrong-password" not in str(caught.value.__cause__)
