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
