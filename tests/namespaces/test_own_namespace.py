"""An ordinary user becomes root of a namespace, or learns what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagesmith.namespaces import own_namespace
from testing.ordinary_user import FIRST_SUBORDINATE, PYTHON, USER, own_home, run_as_user

pytestmark = pytest.mark.tool

ENTER = """
import os
from pathlib import Path
from imagesmith.namespaces.own_namespace import enter_own_namespace
before = os.stat("/proc/self/ns/mnt").st_ino
enter_own_namespace()
print(os.getuid(), os.getgid(), os.getgroups(), os.stat("/proc/self/ns/mnt").st_ino != before)
print(*Path("/proc/self/uid_map").read_text().split(), *Path("/proc/self/gid_map").read_text().split())
Path("file").write_text("")
os.chown("file", 65535, 1)
"""


def test_a_user_is_root_of_the_own_namespace(tmp_path: Path) -> None:
    """With its own id as 0 and its subordinate ids from 1 on; the mounts are its own too."""
    home = own_home(tmp_path)
    done = run_as_user([PYTHON, "-B", "-c", ENTER], home)
    assert done.returncode == 0, done.stderr
    ids = f"0 {USER} 1 1 {FIRST_SUBORDINATE} 65535"
    assert done.stdout.splitlines() == ["0 0 [] True", f"{ids} {ids}"]
    status = (home / "file").stat()
    assert (status.st_uid, status.st_gid) == (FIRST_SUBORDINATE + 65534, FIRST_SUBORDINATE)


@pytest.mark.parametrize(
    ("options", "script", "words"),
    [
        ({"subordinate": False}, ENTER, "has no range of 65536 ids for author: as root, `usermod --add-subuids"),
        ({"path": "/mnt/home/bin"}, ENTER, "newuidmap is missing: as root, `apt-get install uidmap`"),
        ({}, f"import threading; threading.Timer(9, print).start(){ENTER}", "before the process starts threads"),
    ],
)
def test_a_user_without_a_namespace_learns_what_to_do(
    tmp_path: Path, options: dict[str, object], script: str, words: str
) -> None:
    """The error names what is missing and the command that adds it."""
    home = own_home(tmp_path)
    (home / "bin").mkdir()
    for name in ("sh", "env"):
        (home / "bin" / name).symlink_to(f"/bin/{name}")
    done = run_as_user([PYTHON, "-B", "-c", script], home, **options)  # type: ignore[arg-type]
    assert done.returncode != 0 and words in done.stderr


@pytest.mark.parametrize(
    ("name", "value", "cure"),
    [
        ("max_user_namespaces", "0", "sysctl user.max_user_namespaces=15000"),
        ("unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
        ("apparmor_restrict_unprivileged_userns", "1", "sysctl kernel.apparmor_restrict_unprivileged_userns=0"),
        ("max_user_namespaces", "7", ""),
    ],
)
def test_a_setting_that_forbids_namespaces_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, cure: str
) -> None:
    """With the command that changes it; another reason keeps the kernel's words."""
    (tmp_path / name).write_text(f"{value}\n")
    settings = [(tmp_path / place.name, wrong, words) for place, wrong, words in own_namespace._SETTINGS]
    monkeypatch.setattr(own_namespace, "_SETTINGS", settings)
    said = str(own_namespace._forbidden(1).strerror)
    assert (f"as root, `{cure}`" in said) if cure else ("Operation not permitted" in said)
