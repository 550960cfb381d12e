"""--chown, with the tables of the target."""

from __future__ import annotations

import os

import pytest

from testing.copy_support import CopyBench, described


@pytest.fixture
def passwords(bench: CopyBench) -> CopyBench:
    """A target with users and groups, and a source with one file."""
    (bench.target / "etc").mkdir()
    (bench.target / "etc/passwd").write_text(
        "root:x:0:0::/:/bin/sh\nbroken\nbad:x:no:1::/:\nana:x:1000:1001:Ana:/home/ana:/bin/sh\nana:x:7:7::/:\n"
    )
    (bench.target / "etc/group").write_text("root:x:0:\nstaff:x:50:ana\n")
    (bench.source / "file").write_text("x")
    return bench


@pytest.mark.parametrize(
    ("chown", "owner"),
    [
        ("5", (5, 5)),
        ("5:6", (5, 6)),
        ("ana", (1000, 1001)),
        ("ana:staff", (1000, 50)),
        ("5:staff", (5, 50)),
        ("ana:7", (1000, 7)),
        (":staff", (0, 50)),
        ("ana:", (1000, 1001)),
        ("0", (0, 0)),
        ("4294967294", (4294967294, 4294967294)),
    ],
)
def test_owners_are_names_or_numbers(passwords: CopyBench, chown: str, owner: tuple[int, int]) -> None:
    """A user alone gets its own group, or by number the group of that number, as in Docker."""
    passwords.copied("/file", to="/new/", chown=chown)
    assert described(passwords.target / "new/file")["owner"] == owner
    assert described(passwords.target / "new")["owner"] == owner


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize("chown", ["4294967295", "99999999999999999999999:0"])
def test_an_id_that_no_file_can_have_is_refused(passwords: CopyBench, chown: str, link: bool) -> None:
    """Instead of a number that was cut."""
    assert "is not an id of a user or group" in passwords.failed("/file", to="/x", chown=chown, link=link)


@pytest.mark.parametrize(
    ("chown", "words"),
    [("eve", "no user eve in /etc/passwd"), ("ana:wheel", "no group wheel in /etc/group"), ("bad", "no user bad")],
)
def test_an_unknown_name_fails(passwords: CopyBench, chown: str, words: str) -> None:
    """Files that silently belong to root would be a false success."""
    assert words in passwords.failed("/file", to="/x", chown=chown)
    assert not (passwords.target / "x").exists()


def test_a_target_without_tables_takes_numbers_alone(bench: CopyBench) -> None:
    """As in an image of one program."""
    (bench.source / "file").write_text("x")
    assert "the image has no /etc/passwd" in bench.failed("/file", to="/x", chown="ana")
    assert bench.copied("/file", to="/x", chown="3:4") == ["x"]


def test_linked_files_take_numbers_alone(passwords: CopyBench) -> None:
    """--link looks at nothing in the target; with --chmod it has no effect, as in Docker."""
    assert "--link needs numbers" in passwords.failed("/file", to="/x", chown="ana", link=True)
    passwords.copied("/file", to="/x", chown="ana", chmod="600", link=True)
    assert described(passwords.target / "x")["owner"] == (1000, 1001)


def test_tables_behind_links_stay_in_the_target(passwords: CopyBench) -> None:
    """A link of the image leads to the image's own file, also when it is written as a path of the machine."""
    (passwords.target / "etc/passwd").rename(passwords.target / "users")
    (passwords.target / "etc/passwd").symlink_to("../../../../../users")
    passwords.copied("/file", to="/x", chown="ana")
    assert described(passwords.target / "x")["owner"] == (1000, 1001)


@pytest.mark.parametrize("kind", ["folder", "fifo", "huge", "loop"])
def test_a_table_that_is_no_table_fails(passwords: CopyBench, kind: str) -> None:
    """It neither hangs nor fills the memory."""
    table = passwords.target / "etc/passwd"
    table.unlink()
    if kind == "folder":
        table.mkdir()
    elif kind == "fifo":
        os.mkfifo(table)
    elif kind == "huge":
        with table.open("wb") as file:
            file.truncate(17 * 1024 * 1024)
    else:
        table.symlink_to("passwd")
    assert "/etc/passwd" in passwords.failed("/file", to="/x", chown="ana")
