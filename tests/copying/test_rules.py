"""Where files go, and what they keep: the rules of Docker's reference and of BuildKit, on real folders."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from testing.copy_support import CopyBench, described, paths_in, tree


@pytest.fixture
def files(bench: CopyBench) -> CopyBench:
    """A source with files in folders, and links to both."""
    for folder in ("d/e/f", "d2", "empty"):
        (bench.source / folder).mkdir(parents=True)
    for name in ("a.txt", "b.txt", "d/one", "d/e/two", "d/e/f/three", "d2/four"):
        (bench.source / name).write_text(name)
    (bench.source / "link").symlink_to("a.txt")
    (bench.source / "folder-link").symlink_to("/d")
    (bench.source / "lost").symlink_to("nowhere")
    (bench.source / "d/inner").symlink_to("../a.txt")
    return bench


@pytest.mark.parametrize(
    ("sources", "to", "found"),
    [
        (["/a.txt"], "/x", ["x"]),
        (["/a.txt"], "/x/", ["x/", "x/a.txt"]),
        (["/a.txt"], "/x/.", ["x/", "x/a.txt"]),
        (["/a.txt"], "/x/y/z", ["x/", "x/y/", "x/y/z"]),
        (["a.txt"], "x", ["x"]),
        (["../../a.txt"], "../x", ["x"]),
        (["/a.txt", "/b.txt"], "/x/", ["x/", "x/a.txt", "x/b.txt"]),
        (["/a.txt"], "/", ["a.txt"]),
        (["/a.txt"], ".", ["a.txt"]),
        (["/d2"], "/x", ["x/", "x/four"]),
        (["/d2/"], "/x", ["x/", "x/four"]),
        (["/d2/."], "/x/", ["x/", "x/four"]),
        (["/empty"], "/x", ["x/"]),
        (["/link"], "/x/", ["x/", "x/link"]),
        (["/folder-link/one"], "/x", ["x"]),
        (["/folder-link/e"], "/x", ["x/", "x/f/", "x/f/three", "x/two"]),
        (["/*.txt"], "/x/", ["x/", "x/a.txt", "x/b.txt"]),
        (["/a*.txt"], "/x", ["x"]),
        (
            ["/d*"],
            "/x/",
            ["x/", "x/e/", "x/e/f/", "x/e/f/three", "x/e/two", "x/four", "x/inner -> ../a.txt", "x/one"],
        ),
        (["/*/one"], "/x", ["x"]),
        (["/d/*/two"], "/x/", ["x/", "x/two"]),
        (["/li*"], "/x/", ["x/", "x/link"]),
        (["/nothing*"], "/x/", []),
        (["/nothing*", "/a.txt"], "/x/", ["x/", "x/a.txt"]),
    ],
)
def test_sources_arrive_where_docker_puts_them(
    files: CopyBench, sources: list[str], to: str, found: list[str]
) -> None:
    """Contents of folders, names of files, slashes, patterns, and links that a source names."""
    assert files.copied(*sources, to=to) == found


def test_a_link_that_a_source_names_is_followed(files: CopyBench) -> None:
    """Its content arrives under its own name; links inside a copied folder stay links."""
    files.copied("/link", "/folder-link", to="/x/")
    assert (files.target / "x/link").read_text() == "a.txt" and not (files.target / "x/link").is_symlink()
    assert (files.target / "x/inner").is_symlink()


def test_a_pattern_without_a_match_is_reported(files: CopyBench) -> None:
    """Docker takes it silently; the answer names it, so that the log can."""
    assert files.copy("/a.txt", "/nothing*", to="/x/")["unmatched"] == [1]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("/nothing", '"/nothing": not found'),
        ("/a.tx", "did you mean a.txt"),
        ("/a.txt/b", '"/a.txt/b": not found'),
        ("/no/such/file", "there is no folder /no/such"),
        ("/lost", '"/lost": not found'),
        ("/los*", '"/lost": not found: it is a link that leads nowhere'),
        ("/[", "syntax error in pattern"),
    ],
)
def test_what_is_not_there_is_named(files: CopyBench, source: str, words: str) -> None:
    """In Docker's words, with names that are like it; the number of the source is known."""
    result = files.copy("/a.txt", source, to="/x/")
    assert words in result["failed"] and result["source"] == 1


def test_a_name_with_a_star_is_found_as_it_is_escaped(bench: CopyBench) -> None:
    """By a backslash or a class of one letter; a backslash in a name is itself."""
    for name in ("a*b", "arr[0].txt", "back\\slash"):
        (bench.source / name).write_text(name)
    assert bench.copied(r"/a\*b", "/arr[[]0].txt", "/back\\slash", to="/x/") == [
        "x/", "x/a*b", "x/arr[0].txt", "x/back\\slash",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("source", "to", "words"),
    [
        ("/a.txt", "/file/", "/file is a file"),
        ("/a.txt", "/file/x", "/file is a file"),
        ("/d", "/file", "cannot copy to non-directory: /file: a file is there"),
        ("/d", "/onto", "cannot copy to non-directory: /onto/e: a link is there"),
        ("/a.txt", "/holds", "cannot replace to directory /holds/a.txt with file"),
        ("/d", "/dirs", "cannot replace to directory /dirs/one with file"),
        ("/*.txt", "/x", "matches 2 files, which need a folder as destination: write '/x/'"),
        ("/a.txt", "/loop", "too many levels of symbolic links"),
        ("/a.txt", "/" + "n" * 256, "File name too long"),
        ("/a.txt", "/" + "/".join(["n" * 200] * 30), "File name too long"),
    ],
)
def test_what_is_in_the_way_is_named(files: CopyBench, source: str, to: str, words: str) -> None:
    """Files in place of folders and folders in place of files are errors with their paths, as in Docker."""
    for folder in ("folder", "holds/a.txt", "dirs/one", "onto"):
        (files.target / folder).mkdir(parents=True)
    (files.target / "file").touch()
    (files.target / "onto/e").symlink_to("../folder")
    (files.target / "loop").symlink_to("loop")
    assert words in files.failed(source, to=to)


def test_a_file_replaces_files_and_links(files: CopyBench) -> None:
    """Inside a folder a link is replaced; one that the destination itself names is followed, in the target."""
    (files.target / "x").mkdir()
    (files.target / "x/one").symlink_to("/kept")
    (files.target / "kept").write_text("kept")
    (files.target / "x/e").mkdir()
    (files.target / "x/e/two").write_text("old")
    (files.target / "named").symlink_to("elsewhere/new")
    files.copied("/d", to="/x")
    files.copied("/a.txt", to="/named")
    assert (files.target / "x/one").read_text() == "d/one" and not (files.target / "x/one").is_symlink()
    assert (files.target / "kept").read_text() == "kept" and (files.target / "x/e/two").read_text() == "d/e/two"
    assert (files.target / "named").is_symlink() and (files.target / "elsewhere/new").read_text() == "a.txt"


@pytest.mark.parametrize("link", ["/real/deep", "real/deep", "../../../real/deep", "hop"])
def test_links_in_the_destination_are_followed_in_the_target(files: CopyBench, link: str) -> None:
    """Absolute ones begin at the target's root, and folders behind a link that leads nowhere are made."""
    (files.target / "hop").symlink_to("/real/deep")
    (files.target / "there").symlink_to(link)
    files.copied("/a.txt", to="/there/sub/")
    assert (files.target / "real/deep/sub/a.txt").read_text() == "a.txt"
    assert (files.target / "there").is_symlink()


def test_the_working_folder_is_where_relative_paths_begin(files: CopyBench) -> None:
    """Of the destination alone; sources begin at their root."""
    assert files.copied("a.txt", to="y", folder="/w") == ["w/", "w/y"]
    assert "w/sub/a.txt" in files.copied("a.txt", to="sub/", folder="w/")
    assert "up/a.txt" in files.copied("a.txt", to="../up/", folder="/w")
    assert "w/a.txt" in files.copied("a.txt", to="./", folder="/w")


def test_everything_of_a_file_is_kept(bench: CopyBench) -> None:
    """Owner, mode with set-user-id, times, attributes, capabilities, ACLs, devices and pipes; sockets are not."""
    folder = bench.source / "d"
    folder.mkdir()
    (folder / "file").write_bytes(b"x" * 300_000)
    (folder / "pipe").touch()
    (folder / "pipe").unlink()
    os.mkfifo(folder / "pipe", 0o620)
    os.mknod(folder / "device", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (folder / "link").symlink_to("\udcff" * 10)
    (folder / ("\udcfe" + "n" * 254)).touch()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    os.setxattr(folder / "file", "user.key", b"\0value")
    os.setxattr(folder / "file", "security.capability", capability)
    os.chown(folder / "file", 1000, 50)
    os.chown(folder / "link", 7, 8, follow_symlinks=False)
    os.setxattr(folder / "file", "security.capability", capability)
    (folder / "suid").touch()
    os.chown(folder / "suid", 12, 13)
    (folder / "suid").chmod(0o6755)
    sub = folder / "sub"
    sub.mkdir()
    os.chown(sub, 3, 4)
    sub.chmod(0o1770)
    os.setxattr(sub, "user.folder", b"1")
    acl = bytes.fromhex("0200000001000600ffffffff020004000500000004000400ffffffff10000400ffffffff20000000ffffffff")
    os.setxattr(sub, "system.posix_acl_default", acl)
    for place in (*folder.iterdir(), sub):
        os.utime(place, ns=(10**18 + 123456789, 10**18 + 987654321), follow_symlinks=False)
    bench.copied("/d", to="/x")
    expected = tree(folder)
    del expected["socket"]
    assert tree(bench.target / "x") == expected
    assert all(place.lstat().st_mtime_ns == 10**18 + 987654321 for place in (bench.target / "x").iterdir())


def test_a_new_destination_is_an_ordinary_folder(files: CopyBench) -> None:
    """As in Docker, the source folder itself is not copied: its owner and mode stay there; its times come along."""
    os.chown(files.source / "d", 9, 9)
    (files.source / "d").chmod(0o700)
    os.utime(files.source / "d", ns=(0, 5 * 10**9))
    files.copied("/d", to="/x")
    assert described(files.target / "x")["mode"] == 0o755 and described(files.target / "x")["owner"] == (0, 0)
    assert (files.target / "x").stat().st_mtime_ns == 5 * 10**9


def test_a_merged_folder_becomes_like_its_source_below_the_destination(files: CopyBench) -> None:
    """The destination keeps its owner and mode, folders below it get those of the source; files stay beside."""
    (files.target / "x/e").mkdir(parents=True)
    (files.target / "x/e/stays").touch()
    for name in ("x", "x/e"):
        os.chown(files.target / name, 5, 5)
        (files.target / name).chmod(0o711)
    (files.source / "d/e").chmod(0o750)
    found = files.copied("/d", to="/x")
    assert "x/e/stays" in found
    assert described(files.target / "x")["owner"] == (5, 5) and described(files.target / "x")["mode"] == 0o711
    assert described(files.target / "x/e")["owner"] == (0, 0) and described(files.target / "x/e")["mode"] == 0o750


def test_hard_links_of_one_source_stay_hard_links(files: CopyBench) -> None:
    """In all folders of it; between two sources of an instruction they become files, as in Docker."""
    os.link(files.source / "d/one", files.source / "d/e/f/same")
    os.link(files.source / "d/one", files.source / "d2/other")
    files.copied("/d", "/d2", to="/x/")
    one, same, other = (files.target / "x" / name for name in ("one", "e/f/same", "other"))
    assert one.samefile(same) and not one.samefile(other) and other.read_text() == "d/one"
    assert one.stat().st_nlink == 2


def test_holes_stay_holes(bench: CopyBench) -> None:
    """A file of a gigabyte with two pages in it takes no more in the target; its bytes are equal."""
    with (bench.source / "sparse").open("wb") as file:
        file.seek(5_000_000)
        file.write(b"middle")
        file.truncate(2**30)
        file.seek(2**30 - 3)
        file.write(b"end")
    assert bench.copy("/sparse", to="/x", limits={"size": 2**20})["size"] < 2**20
    copied = bench.target / "x"
    assert copied.stat().st_size == 2**30 and copied.stat().st_blocks * 512 < 2**20
    with copied.open("rb") as file:
        file.seek(5_000_000)
        assert file.read(6) == b"middle"
        file.seek(-4, os.SEEK_END)
        assert file.read() == b"\0end"


def test_an_owner_and_a_mode_hold_for_everything_that_is_made(files: CopyBench) -> None:
    """Folders on the way, folders, files and links; an ACL does not bring other rights back."""
    files.copied("/d", to="/new/x", chown="7:8", chmod="u=rwX,go=")
    for path, item in tree(files.target).items():
        assert item["owner"] == (7, 8), path
        if not stat.S_ISLNK(item["kind"]):
            assert item["mode"] == (0o700 if stat.S_ISDIR(item["kind"]) else 0o600), path


def test_new_folders_get_the_octal_mode_as_in_docker(files: CopyBench) -> None:
    """--chmod holds for the folders that are made on the way too."""
    files.copied("/a.txt", to="/p/q/x", chmod="770")
    assert [oct(described(files.target / name)["mode"]) for name in ("p", "p/q", "p/q/x")] == ["0o770"] * 3


@pytest.mark.parametrize(
    ("excludes", "found"),
    [
        (["*"], []),
        (["one"], ["e/", "e/f/", "e/f/three", "e/two", "inner -> ../a.txt"]),
        (["e/f"], ["e/", "e/two", "inner -> ../a.txt", "one"]),
        (["**/t*"], ["e/", "e/f/", "inner -> ../a.txt", "one"]),
        (["*", "!e/f/three"], ["e/", "e/f/", "e/f/three"]),
        (["e", "!e/two"], ["e/", "e/two", "inner -> ../a.txt", "one"]),
        (["/d/one"], ["e/", "e/f/", "e/f/three", "e/two", "inner -> ../a.txt", "one"]),
    ],
)
def test_excludes_look_at_paths_in_the_copied_folder(
    files: CopyBench, excludes: list[str], found: list[str]
) -> None:
    """The destination is made even if nothing is left; folders above an exception are made like their source."""
    (files.source / "d/e").chmod(0o751)
    assert files.copied("/d", to="/x", excludes=excludes) == ["x/", *(f"x/{path}" for path in found)]
    if "e/" in found:
        assert described(files.target / "x/e")["mode"] == 0o751


def test_excludes_hold_for_files_that_a_source_names(files: CopyBench) -> None:
    """The reference's own example: files that match the source and an exclude are not copied."""
    assert files.copied("/*.txt", "/d2", to="/x/", excludes=["b.*"]) == ["x/", "x/a.txt", "x/four"]
    assert "one" not in str(files.copied("/d/one", to="/y/", excludes=["d/one"]))


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("/d/e/two", ["d/", "d/e/", "d/e/two"]),
        ("d/./e/two", ["e/", "e/two"]),
        ("/d/e/./f", ["f/", "f/three"]),
        ("/./d2", ["d2/", "d2/four"]),
        ("/d/./e/./f", ["e/", "e/f/", "e/f/three"]),
        ("/d/e/f/.", ["d/", "d/e/", "d/e/f/", "d/e/f/three"]),
        ("./d2/four", ["d2/", "d2/four"]),
        ("/d/e/./", ["f/", "f/three", "two"]),
        ("/d*/./**/t*", ["e/", "e/f/", "e/f/three", "e/two"]),
        ("/*/*/two", ["d/", "d/e/", "d/e/two"]),
        ("/d/./**/f", ["e/", "e/f/", "e/f/three"]),
        ("/d/inner", ["d/", "d/inner -> ../a.txt"]),
        ("/folder-link/./one", ["one"]),
        ("/no*/x", []),
        ("/d/./no*", []),
        ("/lost", ["lost -> nowhere"]),
    ],
)
def test_parents_keep_the_folders_below_the_pivot(files: CopyBench, source: str, found: list[str]) -> None:
    """`**` crosses folders, links on the way are not followed, and the last one stays a link."""
    assert files.copied(source, to="/out", parents=True) == ["out/", *(f"out/{path}" for path in found)]


def test_parents_are_like_their_sources(files: CopyBench) -> None:
    """Owner and mode of the folders that are kept come from the source."""
    os.chown(files.source / "d", 5, 6)
    (files.source / "d").chmod(0o701)
    files.copied("/d/e/two", to="/out/", parents=True, excludes=[])
    assert (
        described(files.target / "out/d")["owner"] == (5, 6) and described(files.target / "out/d")["mode"] == 0o701
    )
    files.copied("/d/e", to="/other/", parents=True, excludes=["d/e/f"])
    assert paths_in(files.target / "other") == ["d/", "d/e/", "d/e/two"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("/d/nothing", '"/d/nothing": not found'),
        ("/nowhere/./x", '"/nowhere/x": not found'),
        ("/folder-link/one", "a link is on the way, and --parents follows none: write /d/one"),
    ],
)
def test_parents_of_what_is_not_there_fail(files: CopyBench, source: str, words: str) -> None:
    """Without wildcards the source must be there; a link on the way is said and not skipped silently."""
    assert words in files.failed(source, to="/out/", parents=True)


def test_linked_files_replace_links_on_the_way_by_folders(files: CopyBench) -> None:
    """With --link the path of the destination is made anew, and laid over what is there; nothing else remains."""
    (files.target / "real").mkdir()
    (files.target / "real/kept").touch()
    (files.target / "way").symlink_to("real")
    (files.target / "tmp").mkdir()
    (files.target / "tmp").chmod(0o1777)
    (files.target / "tmp/kept").touch()
    files.copied("/a.txt", to="/way/x", link=True)
    found = files.copied("/d2", to="/tmp/sub", link=True, chown="5:6")
    assert found == ["real/", "real/kept", "tmp/", "tmp/kept", "tmp/sub/", "tmp/sub/four", "way/", "way/x"]
    assert described(files.target / "tmp")["mode"] == 0o755 and described(files.target / "tmp")["owner"] == (5, 6)


def test_a_linked_file_does_not_take_the_place_of_a_folder(files: CopyBench) -> None:
    """Docker's merge removes the folder of the image without a word; here it is said."""
    (files.target / "bin").mkdir()
    (files.target / "bin/sh").touch()
    assert "with --link the folder /bin of the image would be replaced" in files.failed(
        "/a.txt", to="/bin", link=True
    )
    assert (files.target / "bin/sh").exists()


def test_here_documents_become_files(bench: CopyBench) -> None:
    """Named as their delimiters in a folder, with mode 0644, and owned by root or as --chown says."""
    bench.copied(to="/x/", text={"EOF": b"one\n", "file.sh": b"two\n"}, chmod="")
    bench.copied(to="/run.sh", text={"EOT": b"#!/bin/sh\n"}, chmod="+x", chown="3")
    assert paths_in(bench.target) == ["run.sh", "x/", "x/EOF", "x/file.sh"]
    assert described(bench.target / "x/EOF")["mode"] == 0o644 and (bench.target / "x/EOF").read_text() == "one\n"
    assert described(bench.target / "run.sh")["mode"] == 0o755 and described(bench.target / "run.sh")["owner"] == (
        3,
        3,
    )


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"entries": 3}, "more than 3 files"),
        ({"depth": 1}, "nested more than 1 deep"),
        ({"size": 8}, "more than 8 bytes"),
        ({"seconds": -1.0}, "longer than the time"),
    ],
)
def test_bounds_hold(files: CopyBench, limits: dict[str, float], words: str) -> None:
    """A copy that goes beyond one fails with its name."""
    assert words in files.failed("/d", to="/x", limits=limits)


def test_a_folder_in_a_folder_to_the_bound_is_copied(bench: CopyBench) -> None:
    """Also where the whole path is longer than the kernel takes in one call, hard links included."""
    place = os.open(bench.source, os.O_RDONLY)
    for _ in range(60):
        os.mkdir("n" * 200, dir_fd=place)
        place, last = os.open("n" * 200, os.O_RDONLY, dir_fd=place), place
        os.close(last)
    os.close(os.open("file", os.O_CREAT, dir_fd=place))
    os.link("file", "same", src_dir_fd=place, dst_dir_fd=place)
    os.close(place)
    result = bench.copy("/", to="/x")
    assert result.get("entries") == 63, result


def test_a_device_of_a_socket_is_no_failure(bench: CopyBench, tmp_path: Path) -> None:
    """A socket that a source names is left out, as no layer can carry it."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(bench.source / "s"))
    assert bench.copied("/s", to="/x/") == ["x/"]
