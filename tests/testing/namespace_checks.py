"""Checks that run as root and as an ordinary user: `namespace_checks.py NAME FOLDER`; a failure is a traceback."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from imagesmith.namespaces.id_maps import IdMap, own_ids, range_of_its_own
from imagesmith.namespaces.maker import NamespaceError
from imagesmith.namespaces.user_namespace import ROOT, RootLayers, UserNamespace


@contextmanager
def ids() -> Iterator[IdMap]:
    if os.getuid():
        yield own_ids()
    else:
        with range_of_its_own(Path("ids").absolute()) as found:
            yield found


def layers() -> RootLayers:
    """Two layers and an upper folder, with files that the current user can make."""
    for name in ("top", "base/folder", "base/etc", "changes/upper", "changes/work"):
        Path(name).mkdir(parents=True)
    Path("changes/upper").chmod(0o755)
    Path("top/over").write_text("top")
    Path("base/over").write_text("base")
    Path("base/gone").write_text("gone")
    Path("base/folder/below").write_text("below")
    Path("base/etc/link").symlink_to("/../../../outside")
    Path("outside").write_text("of the machine")
    Path("secret").write_text("of root")
    Path("secret").chmod(0o600)
    return RootLayers([Path("top").absolute(), Path("base").absolute()], Path("changes").absolute())


@contextmanager
def running() -> Iterator[tuple[UserNamespace, IdMap]]:
    with ids() as found:
        namespace = UserNamespace.start(layers(), found)
        try:
            yield namespace, found
        finally:
            namespace.close()


def sh(namespace: UserNamespace, script: str) -> str:
    done = subprocess.run(
        namespace.enter(["sh", "-c", f"cd {ROOT}\n{script}"]), capture_output=True, text=True, check=False
    )
    return (done.stdout + done.stderr).strip()


def is_whiteout(path: Path) -> bool:
    status = path.lstat()
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def merged() -> None:
    with running() as (namespace, found):
        assert (
            sh(namespace, "cat over; rm gone; rm -r folder; mkdir folder; echo new >new; chown 42:43 new") == "top"
        )
        assert sh(namespace, "stat -c %u:%g new") == "42:43"
        assert sh(namespace, "stat -c %u:%g over") == "0:0"
    upper = Path("changes/upper")
    assert is_whiteout(upper / "gone")
    assert os.getxattr(upper / "folder", "user.overlay.opaque") == b"y"
    owner = (upper / "new").stat()
    # started by root, ids on disk are those of the image
    assert owner.st_uid == (42 if found.privileged else found.outside_user(42))
    assert (Path("base/gone")).read_text() == "gone"


def nobody_is_root_outside() -> None:
    with running() as (namespace, found):
        assert sh(namespace, "id -u") == "0"
        assert int(sh(namespace, "grep -c 4294967295 /proc/self/uid_map || true")) == 0
        outside = int(Path(f"/proc/{namespace.pid}/status").read_text().split("Uid:")[1].split()[0])
        assert outside == found.outside_user(0) and outside != 0
        assert "ermission denied" in sh(namespace, f"cat {Path('secret').absolute()}") or not found.privileged
        assert "ermitted" in sh(namespace, "mknod device c 1 3")
        assert "nvalid argument" in sh(namespace, "chown 65536 over")
        assert "denied" in sh(namespace, "echo 1 >/proc/sys/kernel/core_pattern")


def opened_files() -> None:
    with running() as (namespace, _):
        with os.fdopen(namespace.open("/over"), "rb") as file:
            assert file.read() == b"top"
        with os.fdopen(namespace.open("made", os.O_WRONLY | os.O_CREAT, mode=0o640), "wb") as file:
            file.write(b"made")
        assert sh(namespace, "cat made; stat -c ' %a' made") == "made 640"
        for path, follow, code in (
            ("/etc/link", True, errno.ENOENT), ("/etc/link", False, errno.ELOOP), ("/none", True, errno.ENOENT),
        ):  # fmt: skip
            with contextlib.suppress(OSError):
                namespace.open(path, follow=follow)
                raise AssertionError(path)
            try:
                namespace.open(path, follow=follow)
            except OSError as error:
                assert error.errno == code, error


def hidden_opaque() -> None:
    with running() as (namespace, _):
        sh(namespace, "mkdir made")
        descriptor = namespace.open("made", os.O_RDONLY | os.O_DIRECTORY)
        with contextlib.suppress(OSError):
            os.setxattr(descriptor, "user.overlay.opaque", b"y")
        os.close(descriptor)
    assert "user.overlay.opaque" not in os.listxattr("changes/upper/made")


def ends() -> None:
    with running() as (namespace, _):
        pid = namespace.pid
        assert Path(f"/proc/{pid}").exists()
    assert not Path(f"/proc/{pid}").exists()
    with contextlib.suppress(NamespaceError):
        namespace.open("/over")
        raise AssertionError("a closed namespace opened a file")


def killed() -> None:
    """The other end of the socket closes with the process that holds it."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with running() as (namespace, _):
            os.write(writer, str(namespace.pid).encode())
            time.sleep(60)
        os._exit(0)
    pid = int(os.read(reader, 32))
    os.kill(child, 9)
    os.waitpid(child, 0)
    until = time.monotonic() + 30
    while Path(f"/proc/{pid}/ns").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split(")")[1][:3]:
        assert time.monotonic() < until, "the holder outlived its owner"
        time.sleep(0.02)


def refused() -> None:
    Path("file").write_text("")
    with ids() as found:
        try:
            UserNamespace.start(RootLayers([Path("missing").absolute()]), found)
        except NamespaceError as error:
            assert "missing" in str(error) and "No such file" in str(error), error
        else:
            raise AssertionError("a missing layer was mounted")


def read_only() -> None:
    given = layers()
    with ids() as found:
        for lowers in (given.lowers, given.lowers[:1]):
            namespace = UserNamespace.start(RootLayers(lowers), found)
            try:
                assert "ead-only" in sh(namespace, "echo >over")
                assert sh(namespace, "cat over") == "top"
            finally:
                namespace.close()


def many_layers() -> None:
    given = layers()
    found_layers = []
    for number in range(118):
        place = Path(f"layers/a-rather-long-name-of-a-layer-{number}").absolute()
        place.mkdir(parents=True)
        (place / str(number)).write_text("")
        found_layers.append(place)
    with ids() as found:
        namespace = UserNamespace.start(RootLayers([*found_layers, *given.lowers], given.upper), found)
        try:
            assert sh(namespace, "ls | grep -c '^[0-9]'") == "118"
        finally:
            namespace.close()


if __name__ == "__main__":
    os.chdir(sys.argv[2])
    globals()[sys.argv[1]]()
