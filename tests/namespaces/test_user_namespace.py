"""Roots in user namespaces, held for root and for an ordinary user."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import imagesmith
from imagesmith.namespaces.id_maps import IdRange, NoIds, range_of_its_own, user_ids
from testing.ordinary_user import PYTHON, USER, run_as_user

pytestmark = pytest.mark.tool

CHECKS = {
    "merged": "The layers are one root, and changes lie in the upper folder as an overlay keeps them.",
    "nobody_is_root_outside": "Root inside is an ordinary id outside, without devices and kernel settings.",
    "opened_files": "Files are opened inside, and no link leads out.",
    "hidden_opaque": "A build cannot mark a folder as opaque itself.",
    "ends": "A closed namespace leaves no process.",
    "killed": "A namespace ends with the process that made it, however that ends.",
    "refused": "A layer that cannot be mounted is named.",
    "read_only": "A root without an upper folder cannot be changed.",
    "many_layers": "120 layers are one root.",
}


@pytest.mark.parametrize("mode", ["root", "user"])
@pytest.mark.parametrize("check", CHECKS)
def test_a_root_in_a_user_namespace(check: str, mode: str, tmp_path: Path) -> None:
    """Everything holds for a server of root and of an ordinary user."""
    home = tmp_path / "home"
    home.mkdir()
    if mode == "user":
        os.chown(home, USER, USER)
        done = run_as_user([PYTHON, "-B", "/mnt/tests/testing/namespace_checks.py", check, "/mnt/home"], home)
    else:
        source, tests = Path(imagesmith.__file__).parents[1], Path(__file__).parents[1]
        done = subprocess.run(
            [PYTHON, "-B", str(tests / "testing/namespace_checks.py"), check, str(home)],
            env={"PYTHONPATH": str(source), "PATH": os.environ["PATH"]},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    assert done.returncode == 0, f"{CHECKS[check]}\n{done.stdout}{done.stderr}"


def test_a_user_without_subordinate_ids_learns_what_to_do(tmp_path: Path) -> None:
    """The error names the file and the command that adds a range."""
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, USER, USER)
    done = run_as_user(
        [PYTHON, "-B", "/mnt/tests/testing/namespace_checks.py", "merged", "/mnt/home"], home, subordinate=False
    )
    assert done.returncode != 0
    assert "/etc/subuid has no range of 65536 ids for author" in done.stderr
    assert "usermod --add-subuids" in done.stderr


def test_a_range_is_held_by_one(tmp_path: Path) -> None:
    """Two builds at once have different ids; a range is free again when its holder ends."""
    with range_of_its_own(tmp_path / "ids", most=2) as first:
        with range_of_its_own(tmp_path / "ids", most=2) as second:
            assert first.users[0].outside + 65536 == second.users[0].outside
            with pytest.raises(NoIds, match="all 2 ranges"), range_of_its_own(tmp_path / "ids", most=2):
                pass
        with range_of_its_own(tmp_path / "ids", most=2) as third:
            assert third == second


@pytest.mark.parametrize(
    ("line", "first"),
    [
        ("author:100000:65536", 100000),
        ("31337:200000:65535", 200000),
        ("other:1:65536\nauthor:300000:1000000\n", 300000),
        ("author:100:10\nauthor:400000:65536\n", 400000),
    ],
)
def test_the_subordinate_range_of_a_user(line: str, first: int, tmp_path: Path) -> None:
    """By name or number, and only a range that is long enough."""
    (tmp_path / "subids").write_text(line)
    found = user_ids(31337, 31337, name="author", subuid=tmp_path / "subids", subgid=tmp_path / "subids")
    assert found.users == found.groups == (IdRange(0, 31337, 1), IdRange(1, first, 65535))


@pytest.mark.parametrize("line", ["", "author:x:65536", "author:100000:1000", "author", "other:100000:65536"])
def test_no_subordinate_range(line: str, tmp_path: Path) -> None:
    """A file without a range for the user is named."""
    (tmp_path / "subids").write_text(line)
    with pytest.raises(NoIds, match=r"subids has no range of 65536 ids for author"):
        user_ids(31337, 31337, name="author", subuid=tmp_path / "subids", subgid=tmp_path / "subids")
