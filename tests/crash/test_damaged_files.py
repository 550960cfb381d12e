"""Files of the data directory that are damaged, missing, open to others or not to be used: one line says which."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testing.commands import COMMAND, run
from testing.pipeline_support import RunningServer
from testing.small_disk import fill, small_disk_at

pytestmark = pytest.mark.tool

Damage = Callable[[Path], object]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, tiny_parent: str) -> Path:
    """A data directory with an image, whose server has ended."""
    folder = tmp_path_factory.mktemp("built") / "data"
    with RunningServer(folder, parent=tiny_parent) as server:
        forge = server.start().forge
        forge.build(forge.recipe(forge.component(build="true")))
        server.stop()
    shutil.rmtree(folder / "containers")
    return folder


@pytest.fixture
def data(built: Path, tmp_path: Path) -> Path:
    """A copy of it, to damage."""
    copy = tmp_path / "data"
    shutil.copytree(built, copy)
    copy.chmod(0o700)
    return copy


def refused(*words: str) -> str:
    """What a command says that ends with an error: one line and perhaps a hint, never a traceback."""
    done = run(*words)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("warning:")]
    assert done.returncode == 1, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr and lines, done.stderr
    assert lines[0].startswith("error:") and len(lines) <= 3, done.stderr
    return done.stderr


def overwritten(name: str, content: bytes = b"\xff\xfenot this\0" * 512) -> Damage:
    return lambda data: (data / name).write_bytes(content)


def cut(name: str) -> Damage:
    return lambda data: os.truncate(data / name, (data / name).stat().st_size // 2)


def holed(name: str) -> Damage:
    """Zeros in the middle of a file, which keeps its length."""

    def write(data: Path) -> None:
        file = data / name
        size = file.stat().st_size
        with file.open("r+b") as opened:
            opened.seek(4096)
            opened.write(b"\0" * (size - 4096))

    return write


def newer(data: Path) -> None:
    with sqlite3.connect(data / "imagesmith.sqlite") as opened:
        opened.execute("UPDATE alembic_version SET version_num = '9999'")


def another(name: str, source: str) -> Damage:
    """A whole database, and not the one of this name."""
    return lambda data: shutil.copy(data / source, data / name)


def gone(name: str) -> Damage:
    return lambda data: (data / name).unlink()


_DAMAGED = "imagesmith.sqlite is damaged"
_LOST = "imagesmith.sqlite is missing or empty"
_INDEX = "oci/index.json is damaged"
_DAMAGES: dict[str, tuple[Damage, str]] = {
    "database overwritten": (overwritten("imagesmith.sqlite"), "imagesmith.sqlite is damaged"),
    "database cut": (cut("imagesmith.sqlite"), "imagesmith.sqlite is damaged"),
    "database holed": (holed("imagesmith.sqlite"), "imagesmith.sqlite is damaged"),
    "database cut to its header": (lambda data: os.truncate(data / "imagesmith.sqlite", 50), _DAMAGED),
    "database missing": (gone("imagesmith.sqlite"), _LOST),
    "database empty": (overwritten("imagesmith.sqlite", b""), "imagesmith.sqlite is missing or empty"),
    "database of a newer version": (newer, "was written by a newer version of imagesmith"),
    "database replaced by the journal": (another("imagesmith.sqlite", "engine.sqlite"), _DAMAGED),
    "journal replaced by the database": (another("engine.sqlite", "imagesmith.sqlite"), "engine.sqlite is damaged"),
    "journal overwritten": (overwritten("engine.sqlite"), "engine.sqlite is damaged"),
    "journal cut": (cut("engine.sqlite"), "engine.sqlite is damaged"),
    "journal holed": (holed("engine.sqlite"), "engine.sqlite is damaged"),
    "journal missing": (gone("engine.sqlite"), "engine.sqlite is missing or empty"),
    "index overwritten": (overwritten("oci/index.json"), "oci/index.json is damaged"),
    "index cut": (cut("oci/index.json"), "oci/index.json is damaged"),
    "index empty": (overwritten("oci/index.json", b""), "oci/index.json is damaged"),
    "index of other JSON": (overwritten("oci/index.json", b'{"manifests": [{"digest": "x"}]}'), _INDEX),
    "index missing": (gone("oci/index.json"), "oci/index.json is damaged"),
    "keys overwritten": (overwritten("keys.json"), "keys.json"),
    "key file cut": (cut("secrets.key"), "secrets.key"),
    "key file missing": (gone("secrets.key"), "secrets.key is missing"),
    "signing key cut": (cut("signing/ed25519.pem"), "signing/ed25519.pem"),
    "signing key empty": (overwritten("signing/ed25519.pem", b""), "signing/ed25519.pem"),
    "settings broken": (overwritten("settings.toml", b"region = \n"), "settings.toml"),
    "settings in another encoding": (overwritten("settings.toml", b'account = "\xe9"'), "settings.toml"),
}  # fmt: skip


@pytest.mark.parametrize("name", _DAMAGES)
def test_a_damaged_file_is_named_and_nothing_is_removed(data: Path, name: str) -> None:
    """The server does not start, says which file and what to do, and leaves every image where it is."""
    damage, words = _DAMAGES[name]
    damage(data)
    before = sorted(place.name for place in (data / "oci/blobs/sha256").iterdir())
    said = refused("serve", "--port", "0", "--data-dir", str(data))
    assert words in said
    assert sorted(place.name for place in (data / "oci/blobs/sha256").iterdir()) == before


@pytest.mark.parametrize(
    ("command", "damage", "words"),
    [
        (["ami", "list"], overwritten("imagesmith.sqlite"), "imagesmith.sqlite is damaged"),
        (["ami", "list"], holed("imagesmith.sqlite"), "imagesmith.sqlite is damaged"),
        (["ami", "list"], overwritten("imagesmith.sqlite", b""), "imagesmith.sqlite is empty"),
        (["ami", "list"], newer, "was written by a newer version"),
        (["parameter", "list"], overwritten("imagesmith.sqlite"), "imagesmith.sqlite is damaged"),
        (["base", "list"], overwritten("imagesmith.sqlite"), "imagesmith.sqlite is damaged"),
        (["image", "list"], overwritten("operator-key.json"), "operator-key.json"),
        (["env"], cut("secrets.key"), "secrets.key"),
        (["doctor"], overwritten("settings.toml"), "settings.toml"),
        (["image", "list"], overwritten("settings.toml"), "settings.toml"),
    ],
)
def test_commands_say_which_file_is_damaged(data: Path, command: list[str], damage: Damage, words: str) -> None:
    """Those that look into the data directory without a server."""
    damage(data)
    (data / "server.json").write_text('{"url": "http://127.0.0.1:1", "pid": 1}')
    assert words in refused(*command, "--data-dir", str(data))


def test_component_run_says_that_the_layout_is_damaged(data: Path, tiny_parent: str, tmp_path: Path) -> None:
    """The index is not written anew over images that it should name."""
    document = tmp_path / "one.yml"
    document.write_text(
        "name: one\nschemaVersion: 1.0\nphases:\n  - name: build\n    steps:\n"
        "      - {name: One, action: ExecuteBash, inputs: {commands: ['true']}}\n"
    )
    overwritten("oci/index.json")(data)
    said = refused("component", "run", str(document), "--on", f"container:{tiny_parent}", "--data-dir", str(data))
    assert "oci/index.json is damaged" in said


def test_an_empty_database_is_begun_when_that_is_asked_for(data: Path, tiny_parent: str) -> None:
    """`--new`; the images stay, and the next start needs no such word."""
    (data / "imagesmith.sqlite").unlink()
    before = len(list((data / "oci/blobs/sha256").iterdir()))
    for words in (("--new",), ()):
        with RunningServer(data, parent=tiny_parent, words=["serve", "--port", "0", *words]) as server:
            assert server.start().client.list_images(owner="Self")["imageVersionList"] == []
            server.stop()
    assert len(list((data / "oci/blobs/sha256").iterdir())) == before


@pytest.mark.parametrize(
    "name",
    [
        "containers/storage.conf",
        "containers/images/x/record.json",
        "bases/x.json",
        "machines/accelerator.json",
        "server.json",
    ],
)
def test_records_of_what_can_be_found_out_again_are_no_obstacle(data: Path, tiny_parent: str, name: str) -> None:
    """A cache that is damaged is made anew."""
    (data / name).parent.mkdir(exist_ok=True, parents=True, mode=0o700)
    (data / name).write_bytes(b'{"half')
    with RunningServer(data, parent=tiny_parent) as server:
        forge = server.start().forge
        forge.build(forge.recipe(forge.component(build="true")))
        server.stop()


# The place itself


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    with small_disk_at(tmp_path / "small", megabytes=8) as place:
        yield place


def _read_only(place: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)


def test_a_place_that_cannot_be_used_is_told_in_one_line(tmp_path: Path, small: Path) -> None:
    """Read-only, full, a file, below a file, of somebody else, writable by others, no file system for files."""
    file = tmp_path / "file"
    file.write_text("")
    theirs, loose = tmp_path / "theirs", tmp_path / "loose"
    theirs.mkdir()
    os.chown(theirs, 65534, 65534)
    loose.mkdir()
    loose.chmod(0o777)
    fill(small)
    for place, words in (
        (file, "is not a directory"), (file / "below", "is a file"), (theirs, "belongs to user 65534"),
        (loose, "can be changed by others (mode 0777)"), (small, "no space is left"),
        (Path("/proc/nothing"), "/proc"),
        (Path("/sys/nothing"), "/sys"), (Path("/dev/null"), "is not a directory"),
    ):  # fmt: skip
        assert words.lower() in refused("serve", "--port", "0", "--data-dir", str(place)).lower(), place
    (small / "ballast").unlink()
    _read_only(small)
    assert "read-only" in refused("serve", "--port", "0", "--data-dir", str(small)).lower()


_WRONG_FORM = (
    "logs", "oci", "oci/blobs", "oci/layers", "oci/tmp", "containers", "containers/tmp", "disks", "machines",
    "bases", "signing", "advisories", "overlays", "log-groups", "imagesmith.sqlite/", "engine.sqlite/", "oci/lock/",
    "oci/index.json/", "signing/ed25519.pem/", "settings.toml/", "server.lock/",
)  # fmt: skip


@pytest.mark.parametrize("name", _WRONG_FORM)
def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path, name: str) -> None:
    """And a folder in the place of a file: one sentence with its path, without a number of the system."""
    place = tmp_path / "data" / name.rstrip("/")
    place.parent.mkdir(mode=0o700, parents=True)
    (tmp_path / "data").chmod(0o700)
    if name.endswith("/"):
        place.mkdir()
        words = "is a folder, and a file is needed there"
    else:
        place.write_text("x")
        words = "is a file, and a folder is needed there"
    told = refused("serve", "--port", "0", "--data-dir", str(tmp_path / "data"))
    assert f"{place} {words}" in told and "Errno" not in told, told
    assert place.exists()


def test_settings_and_addresses_that_cannot_be_used_are_told_in_one_line(tmp_path: Path) -> None:
    """A port in use, an address of another machine, a settings file that is none."""
    data = str(tmp_path / "data")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"cannot listen on 127.0.0.1:{port}" in refused("serve", "--port", port, "--data-dir", data)
    assert "cannot listen" in refused(
        "serve", "--host", "192.0.2.1", "--insecure-bind", "--port", "0", "--data-dir", data
    )
    missing = str(tmp_path / "missing.toml")
    assert "missing.toml" in refused("serve", "--port", "0", "--data-dir", data, "--settings", missing)
    (tmp_path / "data" / "settings.toml").mkdir()
    assert "settings.toml" in refused("serve", "--port", "0", "--data-dir", data)


@pytest.mark.parametrize("kind", ["ramfs"])
def test_a_file_system_without_extended_attributes_serves_or_says_why(tmp_path: Path, kind: str) -> None:
    """There is no traceback either way."""
    place = tmp_path / kind
    place.mkdir()
    subprocess.run(["mount", "-t", kind, "-o", "mode=0700", kind, str(place)], check=True)
    try:
        server = subprocess.Popen(
            [COMMAND, "serve", "--port", "0", "--data-dir", str(place)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert server.stdout is not None
        first = server.stdout.readline()
        server.terminate()
        _, errors = server.communicate(timeout=60)
        assert first.startswith("listening on") or errors.startswith("error:"), (first, errors)
        assert "Traceback" not in errors
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_two_servers_on_one_data_directory_are_refused(data: Path, tiny_parent: str) -> None:
    """The second one names the process of the first, which goes on."""
    with RunningServer(data, parent=tiny_parent) as server:
        server.start()
        said = refused("serve", "--port", "0", "--data-dir", str(data))
        assert f"process {server.pid}" in said
        assert server.client.list_images(owner="Self")["imageVersionList"]
        server.stop()


# Who may read it


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_files_are_private_whatever_the_umask(tmp_path: Path, tiny_parent: str, umask: int) -> None:
    """Databases with their journals, keys, logs, layout: 0600, folders 0700; what is built is always the same."""
    data = tmp_path / "data"
    before = os.umask(umask)
    try:
        server = RunningServer(data, parent=tiny_parent)
        data.chmod(0o700)
        with server:
            forge = server.start().forge
            forge.build(forge.recipe(forge.component(build="touch /made && stat -c %a /made | grep -x 644")))
            for name in ("imagesmith.sqlite-wal", "imagesmith.sqlite-shm", "server.json", "engine.sqlite-wal"):
                assert (data / name).exists()
            ours = ("oci", "logs", "log-groups", "signing")
            found = [place for name in ours for place in (data / name).rglob("*")] + [
                place for place in data.iterdir() if place.name != "settings.toml"
            ]
            modes = {place: stat.S_IMODE(place.lstat().st_mode) for place in found}
            loose = {
                place: oct(mode) for place, mode in modes.items()
                if mode & 0o077 and place.is_file() and place.name != "ed25519.pub"
            }  # fmt: skip
            assert not loose
            assert not [place for place in data.iterdir() if place.is_dir() and modes[place] & 0o077]
            server.stop()
    finally:
        os.umask(before)


def test_a_data_directory_that_others_can_read_is_warned_about(data: Path, tiny_parent: str) -> None:
    """The server starts, says it, and its folders are private all the same."""
    data.chmod(0o755)
    (data / "logs").chmod(0o755)
    with RunningServer(data, parent=tiny_parent) as server:
        server.start()
        assert "others can read the data directory (mode 0755)" in server.errors.read_text()
        assert stat.S_IMODE((data / "logs").stat().st_mode) == 0o700
        server.stop()
