"""Actions on folders and links, owners and modes (spec/components.md 10.13, 10.14, 10.16 to 10.18, 10.21)."""

from __future__ import annotations

import pwd
from pathlib import Path
from typing import Any

import pytest

from testing.component_support import Act, error


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_create_folder(act: Act) -> None:
    """A folder is made with parents, owner and mode; an existing one keeps what it holds."""
    ran = act("CreateFolder", {"path": "a/b/c", "permissions": "0700", "owner": "1", "group": "2"})
    status = (ran.folder / "a/b/c").stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o700, 1, 2)
    make(ran.folder, "a/b/c/file")
    act("CreateFolder", {"path": "a/b/c", "permissions": "0750"})
    assert (ran.folder / "a/b/c/file").exists()
    assert (ran.folder / "a/b/c").stat().st_mode & 0o7777 == 0o750
    assert "exists" in error(act("CreateFolder", {"path": "a", "overwrite": False}))
    assert "is not a folder" in error(act("CreateFolder", {"path": "a/b/c/file"}))


def test_create_symlink(act: Act) -> None:
    """A link is made with its parents, replaced only by force, and its target must be there."""
    ran = act("CreateFolder", {"path": "real"})
    make(ran.folder, "one", "file")
    assert act("CreateSymlink", {"path": "a/b/link", "target": str(ran.folder / "one")}).status == "success"
    assert str((ran.folder / "a/b/link").readlink()) == str(ran.folder / "one")
    assert "'force' is false" in error(act("CreateSymlink", {"path": "a/b/link", "target": "/"}))
    act("CreateSymlink", {"path": "a/b/link", "target": "/", "force": True})
    assert str((ran.folder / "a/b/link").readlink()) == "/"
    assert "is not a link" in error(act("CreateSymlink", {"path": "file", "target": "/", "force": True}))
    assert "no such file" in error(act("CreateSymlink", {"path": "x", "target": "nowhere"}))
    act("CreateSymlink", {"path": "beside", "target": "real"})
    assert str((ran.folder / "beside").readlink()) == "real"


@pytest.mark.parametrize("action", ["CopyFolder", "MoveFolder"])
def test_transfer_folder(act: Act, action: str) -> None:
    """A folder goes into or becomes its destination, with modes and links as they are."""
    ran = act("CreateFolder", {"path": "x/deep"})
    make(ran.folder, "x/one", "x/deep/.two")
    (ran.folder / "x/link").symlink_to("one")
    (ran.folder / "x/one").chmod(0o640)
    act(action, {"source": "x", "destination": "into/some/"})
    assert names(ran.folder / "into/some/x") == ["deep/.two", "link", "one"]
    assert str((ran.folder / "into/some/x/link").readlink()) == "one"
    assert (ran.folder / "into/some/x/one").stat().st_mode & 0o7777 == 0o640
    assert (ran.folder / "x").exists() == (action == "CopyFolder")
    act(action, {"source": "into/some/x", "destination": "new/name"})
    assert names(ran.folder / "new/name") == ["deep/.two", "link", "one"]


@pytest.mark.parametrize(("action", "kept"), [("CopyFolder", ["extra", "one"]), ("MoveFolder", ["one"])])
def test_existing_destination(act: Act, action: str, kept: list[str]) -> None:
    """An existing folder is merged by a copy and replaced by a move; overwrite false forbids both."""
    ran = act("CreateFolder", {"path": "x"})
    make(ran.folder, "x/one", "y/extra", "y/one")
    assert "'overwrite' is false" in error(act(action, {"source": "x", "destination": "y", "overwrite": False}))
    act(action, {"source": "x", "destination": "y"})
    assert names(ran.folder / "y") == kept
    assert (ran.folder / "y/one").read_text() == "x/one"


@pytest.mark.parametrize("action", ["CopyFolder", "MoveFolder"])
def test_transfer_folder_errors(act: Act, action: str) -> None:
    """Sources that are missing or would eat themselves are refused, and nothing is lost."""
    ran = act("CreateFolder", {"path": "x/in"})
    make(ran.folder, "x/in/one")
    (ran.folder / "alias").symlink_to("x")
    assert error(act(action, {"source": "none", "destination": "y"})) == "none: no such folder"
    for destination in ("x/in/y", "x/", "alias/y", "x"):
        assert error(act(action, {"source": "x", "destination": destination}))
    if action == "MoveFolder":
        assert error(act(action, {"source": "x/in", "destination": "x"}))
    assert (ran.folder / "x/in/one").read_text() == "x/in/one"


@pytest.mark.parametrize("action", ["CopyFolder", "MoveFolder"])
def test_folder_wildcard(act: Act, action: str) -> None:
    """A star matches folders only and needs a separator at the end of the destination."""
    ran = act("CreateFolder", {"path": "s/a1"}, {"path": "s/a2"}, {"path": "s/b"})
    make(ran.folder, "s/a1/one", "s/a3")
    assert "must end with a separator" in error(act(action, {"source": "s/a*", "destination": "t"}))
    act(action, {"source": "s/a*", "destination": "t/"})
    assert sorted([path.name for path in (ran.folder / "t").iterdir()]) == ["a1", "a2"]
    assert error(act(action, {"source": "s/z*", "destination": "t/"})) == "no folder matches"


def test_delete_folder(act: Act) -> None:
    """An empty folder goes, a full one by force only, a missing one is fine, a link and the root are refused."""
    ran = act("CreateFolder", {"path": "empty"}, {"path": "full/sub"})
    (ran.folder / "link").symlink_to("full")
    act("DeleteFolder", {"path": "empty/"}, {"path": "none"})
    assert not (ran.folder / "empty").exists()
    assert error(act("DeleteFolder", {"path": "full"}))
    assert "is a link" in error(act("DeleteFolder", {"path": "link", "force": True}))
    assert "root of the file system" in error(act("DeleteFolder", {"path": "/../..//.", "force": False}))
    act("DeleteFolder", {"path": "full", "force": "true"})
    assert not (ran.folder / "full").exists()
    make(ran.folder, "file")
    assert "use DeleteFile" in error(act("DeleteFolder", {"path": "file", "force": True}))


def test_list_files(act: Act) -> None:
    """Files are listed with full paths, sorted, by pattern, with sub-folders when asked; one output per entry."""
    ran = act("CreateFolder", {"path": "d/sub/deep"})
    make(ran.folder, "d/b.txt", "d/a.txt", "d/.h.txt", "d/c.md", "d/sub/deep/e.txt", "d/x[1]")
    root = ran.folder / "d"
    listed = act(
        "ListFiles",
        {"path": "d"},
        {"path": str(root), "fileNamePattern": "*.txt", "recursive": True},
        {"path": "d/", "fileNamePattern": "x[1]"},
        {"path": "d", "fileNamePattern": "nothing*"},
    )
    assert [output["files"] for output in listed.step("Step").outputs] == [
        ",".join(f"{root}/{name}" for name in (".h.txt", "a.txt", "b.txt", "c.md", "x[1]")),
        ",".join(f"{root}/{name}" for name in (".h.txt", "a.txt", "b.txt", "sub/deep/e.txt")),
        f"{root}/x[1]",
        "",
    ]
    assert error(act("ListFiles", {"path": "none"})) == "none: no such folder"


def test_owners_and_modes(act: Act) -> None:
    """Owners and modes change on files, links' targets and whole folders."""
    ran = act("CreateFolder", {"path": "d/sub"})
    make(ran.folder, "d/sub/one", "file")
    (ran.folder / "link").symlink_to("file")
    daemon = pwd.getpwnam("daemon")
    act("SetFileOwner", {"path": "link", "owner": "daemon"})
    status = (ran.folder / "file").stat()
    assert (status.st_uid, status.st_gid) == (daemon.pw_uid, daemon.pw_gid)
    act("SetFileOwner", {"path": "file", "owner": "4321"})
    assert (ran.folder / "file").stat().st_uid == 4321
    act("SetFolderOwner", {"path": "d", "owner": "daemon", "group": "0"})
    assert [(ran.folder / name).stat().st_uid for name in ("d", "d/sub/one")] == [daemon.pw_uid] * 2
    act("SetFolderOwner", {"path": "d", "owner": "0", "recursive": False})
    assert [(ran.folder / name).stat().st_uid for name in ("d", "d/sub/one")] == [0, daemon.pw_uid]
    act("SetFilePermissions", {"path": "file", "permissions": "0600"})
    assert (ran.folder / "file").stat().st_mode & 0o7777 == 0o600
    act("SetFolderPermissions", {"path": "d", "permissions": "711"})
    assert (ran.folder / "d/sub/one").stat().st_mode & 0o7777 == 0o711
    act("SetFolderPermissions", {"path": "d", "permissions": "700", "recursive": "False"})
    assert [(ran.folder / name).stat().st_mode & 0o7777 for name in ("d", "d/sub")] == [0o700, 0o711]


@pytest.mark.parametrize(
    ("action", "entry", "message"),
    [
        ("SetFileOwner", {"path": "none", "owner": "root"}, "none: no such file"),
        ("SetFileOwner", {"path": ".", "owner": "root"}, ".: is a folder"),
        ("SetFolderOwner", {"path": "none", "owner": "root"}, "none: no such folder"),
        ("SetFolderOwner", {"path": ".", "owner": "nobody-here"}, "nobody-here: no such user"),
        ("SetFilePermissions", {"path": "none", "permissions": "0600"}, "none: no such file"),
        ("SetFolderPermissions", {"path": "none", "permissions": "0600"}, "none: no such folder"),
    ],
)
def test_owner_errors(act: Act, action: str, entry: dict[str, Any], message: str) -> None:
    """What is missing is named."""
    assert error(act(action, entry)) == message
