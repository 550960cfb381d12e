"""The files that a managed base brings are read by the programs that they are for, without a complaint."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesmith.artifacts.disk_root import open_root, unpack
from imagesmith.artifacts.first_boot import PRESET
from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.managed.bases import managed_bases
from testing.machines import MadeBase

pytestmark = [pytest.mark.tool, pytest.mark.timeout(900)]

_NAMES = [base.name for base in managed_bases()]
_HOST_NAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,62}\.?)*")


@pytest.fixture(scope="module", params=_NAMES)
def root(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, container_storage: ContainerStorage
) -> Iterator[Path]:
    """The root of each base, as a folder."""
    base = next(item for item in managed_bases() if item.name == request.param)
    if base.kind == "container":
        container_storage.create("base-files", request.getfixturevalue("debian"))
        yield container_storage.mount("base-files")
        container_storage.remove("base-files")
        return
    made: MadeBase = request.getfixturevalue("machine_base")
    folder = tmp_path_factory.mktemp("root")
    with open_root(made.disk.path) as found:
        unpack(found, folder)
    yield folder


def inside(root: Path, *argv: str, input: str = "") -> subprocess.CompletedProcess[str]:
    # the root of a machine has no device nodes of its own: its kernel makes them
    entry = ["unshare", "--mount", "--", "sh", "-c", 'mount --rbind /dev "$0/dev" && exec chroot "$0" "$@"']
    return subprocess.run([*entry, str(root), *argv], capture_output=True, text=True, input=input, check=False)


def test_no_file_of_a_base_holds_an_escape_that_was_not_meant() -> None:
    """A file ends with a newline; `\\n` and `\\t` stand in none of them but as the escapes of a shell."""
    for base in managed_bases():
        for file in base.files:
            assert file.text.endswith("\n"), (base.name, file.path)
            assert not re.search(r"\\[nt]", file.text), (base.name, file.path)


def test_the_hosts_file_names_localhost(root: Path) -> None:
    """Every line is an address with names, and the resolver of the base finds localhost in it."""
    file = root / "etc/hosts"
    if not file.exists():
        assert not (root / "usr/lib/systemd/systemd").exists(), "only a container gets its hosts file from outside"
        return
    for line in file.read_text().splitlines():
        assert re.fullmatch(r"[0-9a-fA-F.:]+(\s+[a-z0-9-]+)+", line), line
    for family, address in (("ahostsv4", "127.0.0.1"), ("ahostsv6", "::1")):
        found = inside(root, "getent", "-s", "hosts:files", family, "localhost")
        assert found.stdout.split()[:1] == [address]


def test_the_table_of_file_systems_is_read(root: Path) -> None:
    """findmnt parses every line; what it lacks is only the disks of a machine that does not run."""
    argv = ["findmnt", "--verify", "--tab-file", str(root / "etc/fstab")]
    found = subprocess.run(argv, capture_output=True, text=True, check=False)
    said = found.stdout + found.stderr
    complaints = [line for line in said.splitlines() if re.search(r"\[[EW]\]", line)]
    assert not [line for line in complaints if "unreachable" not in line], said
    assert "parse error" not in said or "0 parse errors" in said
    text = (root / "etc/fstab").read_text()
    fields = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    assert all(len(field) == 6 for field in fields), text


def test_apt_and_its_sources_are_read(root: Path) -> None:
    """apt names the suites of the mirror that it would update from, and takes every configuration file."""
    found = inside(root, "apt-get", "update", "--print-uris")
    assert found.returncode == 0 and not found.stderr, found.stderr
    assert set(re.findall(r"/dists/([^/]+)/InRelease'", found.stdout)) >= {"bookworm", "bookworm-security"}
    assert inside(root, "apt-config", "dump").stdout.count("Acquire::Languages") >= 1
    assert inside(root, "dpkg", "--audit").stdout == ""


def test_names_and_resolvers_are_the_machines_own(root: Path) -> None:
    """A base has no host name, and of resolvers at most the link to systemd-resolved's file."""
    name = root / "etc/hostname"
    assert not name.exists() or _HOST_NAME.fullmatch(name.read_text().strip())
    place = root / "etc/resolv.conf"
    if place.is_symlink():
        assert place.readlink() == Path("../run/systemd/resolve/stub-resolv.conf")
    else:
        assert not place.exists() or not place.read_text()


def test_services_read_what_is_theirs(root: Path) -> None:
    """sshd, sudo, GRUB, cloud-init and systemd take their files; a container has none of them."""
    if not (root / "usr/lib/systemd/systemd").exists():
        return
    assert inside(root, "grub-script-check", input=(root / "boot/grub/grub.cfg").read_text()).returncode == 0
    assert inside(root, "visudo", "-cq").returncode == 0
    script = "mkdir -p /run/sshd; ssh-keygen -q -t ed25519 -N '' -f /run/key && sshd -t -h /run/key; rm /run/key*"
    done = inside(root, "sh", "-c", script)
    assert (done.returncode, done.stderr) == (0, "")
    checked = "import sys, yaml; [yaml.safe_load(open(name)) for name in sys.argv[1:]]"
    files = [f"/{place.relative_to(root)}" for place in (root / "etc/cloud").rglob("*.cfg")]
    assert inside(root, "python3", "-c", checked, *files).returncode == 0
    done = inside(root, "systemd-analyze", "verify", "--man=no", "/etc/systemd/system/ssh-host-key.service")
    assert "ssh-host-key.service:" not in done.stderr


def test_a_machine_of_the_base_has_its_first_boot_before_it(root: Path) -> None:
    """machine-id is what systemd takes for a first boot, and is kept nowhere else; a container's stays empty."""
    assert not (root / "var/lib/dbus/machine-id").exists()
    machine = (root / "usr/lib/systemd/systemd").exists()
    assert (root / "etc/machine-id").read_text() == ("uninitialized\n" if machine else "")


def test_a_first_boot_leaves_units_as_they_were_built(root: Path) -> None:
    """Presets in both modes of systemd change no unit; without the file of the image they would."""
    if not (root / "usr/lib/systemd/systemd").exists():
        return

    def units() -> list[list[str]]:
        listed = inside(root, "systemctl", "list-unit-files", "--no-legend", "--plain", "--no-pager").stdout
        return [line.split()[:2] for line in listed.splitlines()]

    before = units()
    for mode in ("enable-only", "full"):
        inside(root, "systemctl", "preset-all", f"--preset-mode={mode}")
        assert units() == before
    (root / PRESET).unlink()
    inside(root, "systemctl", "preset-all", "--preset-mode=enable-only")
    assert ["ssh.socket", "enabled"] in units() and ["ssh.socket", "disabled"] in before
