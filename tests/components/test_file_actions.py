"""Actions on files (spec/components.md 10.10 to 10.12, 10.15, 10.17 to 10.20)."""

from __future__ import annotations

from pathlib import Path

import pytest

from testing.component_support import Act, RunText, error, one_step


def tree(folder: Path) -> dict[str, str]:
    """Relative path -> content of every file; links show as `-> target`, folders end with `/`."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_dir():
            found[f"{name}/"] = ""
        else:
            found[name] = path.read_text()
    return found


def test_create_file(act: Act) -> None:
    """A file is made with its folders, content and mode."""
    ran = act(
        "CreateFile",
        {"path": "a/b/one", "content": "x\\n$HOME"},
        {"path": "two", "permissions": "755"},
        {"path": "-three -n", "content": "dash"},
    )
    assert ran.status == "success"
    assert tree(ran.folder) == {"a/": "", "a/b/": "", "a/b/one": "x\\n$HOME", "two": "", "-three -n": "dash"}
    assert (ran.folder / "two").stat().st_mode & 0o7777 == 0o755
    assert ran.step("Step").outputs == ()


def test_create_file_overwrites_unless_told(act: Act) -> None:
    """An existing file is truncated, or an error with overwrite false; a folder is always one."""
    ran = act("CreateFile", {"path": "one", "content": "long"}, {"path": "one", "content": "x"})
    assert tree(ran.folder) == {"one": "x"}
    assert "exists" in error(act("CreateFile", {"path": "one", "overwrite": False}))
    (ran.folder / "dir").mkdir()
    assert "is a folder" in error(act("CreateFile", {"path": "dir"}))
    assert "names a folder" in error(act("CreateFile", {"path": "dir/"}))


def test_create_file_owner(act: Act) -> None:
    """Owner and group may be names or numbers; an unknown one fails."""
    ran = act("CreateFile", {"path": "one", "owner": "1234", "group": "daemon", "permissions": "4711"})
    status = (ran.folder / "one").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (1234, 1, 0o4711)
    assert "nobody-here" in error(act("CreateFile", {"path": "two", "owner": "nobody-here"}))


@pytest.mark.parametrize(
    ("encoding", "data"),
    [
        ("utf8", b"\xc3\xa9"),
        ("UTF-8", b"\xc3\xa9"),
        ("utf16", b"\xe9\x00"),
        ("utf-16-LE", b"\xe9\x00"),
        ("utf16-BE", b"\x00\xe9"),
        ("utf32", b"\xe9\x00\x00\x00"),
        ("utf-32-be", b"\x00\x00\x00\xe9"),
    ],
)
def test_encodings(act: Act, encoding: str, data: bytes) -> None:
    """Each encoding writes its bytes without a mark, reads them back, and drops a mark when reading."""
    ran = act("CreateFile", {"path": "one", "content": "\u00e9", "encoding": encoding})
    assert (ran.folder / "one").read_bytes() == data
    read = act("ReadFile", {"path": "one", "encoding": encoding})
    assert read.step("Step").outputs == ({"content": "\u00e9"},)
    (ran.folder / "one").write_text("\ufeff\u00e9")
    act("SetFileEncoding", {"path": "one", "encoding": encoding})
    assert (ran.folder / "one").read_bytes() == data


def test_append_file(act: Act) -> None:
    """Text is added as it is; the file must be there."""
    act("CreateFile", {"path": "one", "content": "a"})
    ran = act("AppendFile", {"path": "one", "content": "b"}, {"path": "one"})
    assert tree(ran.folder) == {"one": "ab"}
    assert error(act("AppendFile", {"path": "two", "content": "b"})) == "two: no such file"


def test_list_actions_stop_at_the_first_error(act: Act) -> None:
    """Entries before the failing one stay done, those after it are not tried."""
    ran = act("CreateFile", {"path": "one"}, {"path": "one", "overwrite": False}, {"path": "three"})
    assert error(ran) and tree(ran.folder) == {"one": ""}


def test_a_single_mapping_is_a_list_of_one(run_text: RunText) -> None:
    """A list action takes one mapping without a dash."""
    ran = run_text(one_step("CreateFile", {"path": "one"}))
    assert (ran.status, tree(ran.folder)) == ("success", {"one": ""})


@pytest.mark.parametrize("action", ["CopyFile", "MoveFile"])
def test_transfer(act: Act, action: str) -> None:
    """The text after the last separator is the new name, a separator at the end keeps the old one."""
    kept = {"one": "1"} if action == "CopyFile" else {}
    ran = act("CreateFile", {"path": "one", "content": "1", "permissions": "0751"})
    act(action, {"source": "one", "destination": "a/b/two"})
    assert tree(ran.folder) == {"a/": "", "a/b/": "", "a/b/two": "1", **kept}
    assert (ran.folder / "a/b/two").stat().st_mode & 0o7777 == 0o751
    act(action, {"source": "a/b/two", "destination": "c/"})
    assert (ran.folder / "c" / "two").read_text() == "1"
    act(action, {"source": "c/two", "destination": "a"})
    assert (ran.folder / "a" / "two").read_text() == "1"


@pytest.mark.parametrize("action", ["CopyFile", "MoveFile"])
def test_transfer_with_wildcard(act: Act, action: str) -> None:
    """A star matches files of one folder, hidden ones too, and needs a folder for more than one."""
    for name in ("a.txt", "b.txt", ".c.txt", "d[1].txt", "e.md"):
        act("CreateFile", {"path": f"in/{name}", "content": name})
    ran = act("CreateFolder", {"path": "in/sub.txt"})
    assert "must end with a separator" in error(act(action, {"source": "in/*.txt", "destination": "out"}))
    act(action, {"source": "in/*.txt", "destination": "out/"})
    assert sorted([path.name for path in (ran.folder / "out").iterdir()]) == [
        ".c.txt",
        "a.txt",
        "b.txt",
        "d[1].txt",
    ]
    assert ("a.txt" in [path.name for path in (ran.folder / "in").iterdir()]) == (action == "CopyFile")
    act("CreateFile", {"path": "in/d[1].txt"})
    act(action, {"source": "in/d[1].*", "destination": "only"})
    assert (ran.folder / "only").is_file()
    assert error(act(action, {"source": "in/*.zip", "destination": "x/"})) == "no file matches"
    assert "only after the last separator" in error(act(action, {"source": "*/a", "destination": "x/"}))


@pytest.mark.parametrize("action", ["CopyFile", "MoveFile"])
def test_transfer_errors(act: Act, action: str) -> None:
    """Missing sources, folders and files in the way are told apart."""
    ran = act("CreateFile", {"path": "one", "content": "1"}, {"path": "two", "content": "2"})
    (ran.folder / "dir").mkdir()
    assert error(act(action, {"source": "none", "destination": "x"})) == "none: no such file"
    assert "is a folder" in error(act(action, {"source": "dir", "destination": "x"}))
    assert "'overwrite' is false" in error(act(action, {"source": "one", "destination": "two", "overwrite": False}))
    assert "'overwrite' is false" in error(act(action, {"source": "one", "destination": "dir", "overwrite": False}))
    act(action, {"source": "one", "destination": "one"})
    assert (ran.folder / "one").read_text() == "1"
    act(action, {"source": "one", "destination": "two"})
    assert (ran.folder / "two").read_text() == "1"


def test_copy_replaces_links_instead_of_following(act: Act) -> None:
    """A copy onto a link replaces the link; what it pointed to is not touched."""
    ran = act("CreateFile", {"path": "one", "content": "1"}, {"path": "target", "content": "t"})
    (ran.folder / "link").symlink_to("target")
    act("CopyFile", {"source": "one", "destination": "link"})
    assert tree(ran.folder) == {"one": "1", "target": "t", "link": "1"}


def test_delete_file(act: Act) -> None:
    """Files and matches go, what is not there is fine, folders are refused."""
    for name in ("a.txt", "b.txt", ".h.txt", "c.md", "sub.txt/x"):
        act("CreateFile", {"path": name})
    ran = act("DeleteFile", {"path": "*.txt"}, {"path": "none"}, {"path": "none/*"})
    assert ran.status == "success"
    assert tree(ran.folder) == {"c.md": "", "sub.txt/": "", "sub.txt/x": ""}
    assert "use DeleteFolder" in error(act("DeleteFile", {"path": "sub.txt"}))
    (ran.folder / "link").symlink_to("sub.txt")
    act("DeleteFile", {"path": "link"})
    assert (ran.folder / "sub.txt/x").exists() and not (ran.folder / "link").is_symlink()


def test_read_file(act: Act) -> None:
    """Content is unchanged, one output per entry, printed only when asked."""
    act("CreateFile", {"path": "one", "content": " a\n\n"}, {"path": "two", "content": "printed"})
    ran = act("ReadFile", {"path": "one"}, {"path": "two", "printFileContent": True})
    assert ran.step("Step").outputs == ({"content": " a\n\n"}, {"content": "printed"})
    assert "CmdExecution: Stdout: printed" in ran.lines and "Stdout:  a" not in ran.log
    assert error(act("ReadFile", {"path": "none"})) == "none: no such file"
    (ran.folder / "bad").write_bytes(b"ok\xff")
    assert error(act("ReadFile", {"path": "bad"})) == "bad is not utf8: invalid start byte at byte 2"
    assert "is a folder" in error(act("ReadFile", {"path": "."}))


def test_names_with_everything(act: Act) -> None:
    """Blanks, quotes, newlines, dollars and stars in contents and names are data, never shell."""
    name = "a b'c\"d$(touch bad)`touch bad`;&|\n\\é"
    ran = act("CreateFile", {"path": name, "content": name})
    act("CopyFile", {"source": name, "destination": "copy/"})
    assert tree(ran.folder) == {name: name, "copy/": "", f"copy/{name}": name}
    act("DeleteFile", {"path": f"{name[:8]}*"})
    assert tree(ran.folder) == {"copy/": "", f"copy/{name}": name}


def test_nul_in_a_path_is_refused(act: Act) -> None:
    """A NUL in a path is said, not passed on."""
    assert "NUL" in error(act("CreateFile", {"path": "a\0b"}))
