"""Which mirror a base is made from."""

from __future__ import annotations

import pytest

from imagesmith.artifacts.mirrors import Mirrors, choose_mirrors

ONE_LINE = """\
# a comment
deb http://mirror.example/debian bookworm main
deb [signed-by=/x.gpg] http://mirror.example/debian-security bookworm-security main
deb-src http://other.example/debian bookworm main
"""
STANZAS = """\
Types: deb
# a date
URIs: https://mirror.example/debian/
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: https://mirror.example/debian-security
Suites: bookworm-security
Components: main
"""
FOREIGN = (
    "deb https://packages.example/apt tool main\n\nTypes: deb\nURIs: https://deb.nodes.example/node\nSuites: x\n"
)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([ONE_LINE], Mirrors("http://mirror.example/debian", "http://mirror.example/debian-security")),
        ([STANZAS], Mirrors("https://mirror.example/debian", "https://mirror.example/debian-security")),
        ([FOREIGN, STANZAS], Mirrors("https://mirror.example/debian", "https://mirror.example/debian-security")),
        ([FOREIGN], Mirrors("", "")),
        ([], Mirrors("", "")),
        (["deb file:/srv/debian bookworm main"], Mirrors("", "")),
    ],
)
def test_the_mirror_of_this_machine_is_found(texts: list[str], expected: Mirrors) -> None:
    """Both formats of apt's sources are read; other people's repositories are not mirrors."""
    assert choose_mirrors("", texts) == expected


def test_the_settings_win() -> None:
    """A configured mirror is taken whatever apt says, with its security part beside it."""
    assert choose_mirrors("http://mine/debian/", [STANZAS]) == Mirrors(
        "http://mine/debian", "http://mine/debian-security"
    )


def test_three_lines_for_a_suite() -> None:
    """The release, its updates and its security updates."""
    lines = Mirrors("http://m/debian", "http://m/debian-security").sources("bookworm", ["main", "contrib"])
    assert lines == [
        "deb http://m/debian bookworm main contrib",
        "deb http://m/debian bookworm-updates main contrib",
        "deb http://m/debian-security bookworm-security main contrib",
    ]


SNAPSHOT = "http://snap.example/archive/debian/20260101T000000Z"


@pytest.mark.parametrize(
    ("mirror", "security", "moment"),
    [
        (SNAPSHOT, "http://snap.example/archive/debian-security/20260101T000000Z", 1_767_225_600),
        (f"{SNAPSHOT}/", "http://snap.example/archive/debian-security/20260101T000000Z", 1_767_225_600),
        ("http://snap.example/own/20260101T000000Z", "http://snap.example/own/20260101T000000Z/debian-security",
         1_767_225_600),
        ("http://snap.example/debian/20261301T000000Z", "http://snap.example/debian/20261301T000000Z/debian-security",
         None),
        ("http://s.example/20260101T000000Z/debian", "http://s.example/20260101T000000Z/debian-security", None),
    ],
)  # fmt: skip
def test_a_snapshot_is_known_by_its_address(mirror: str, security: str, moment: int | None) -> None:
    """Its security part has the same time, and its old index is accepted; a time that does not exist is none."""
    found = choose_mirrors(mirror, [])
    assert (found.security, found.snapshot) == (security, moment)
    lines = found.sources("bookworm", ["main"])
    assert all(line.startswith("deb [check-valid-until=no] ") == (moment is not None) for line in lines)
