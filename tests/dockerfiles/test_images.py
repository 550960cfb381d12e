"""Images that a Dockerfile may name: those of registries, and nothing that is in the storage already."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesmith.dockerfiles.graph import build_graph
from imagesmith.dockerfiles.images import ImageUse, image_uses
from imagesmith.dockerfiles.parser import parse_dockerfile
from imagesmith.dockerfiles.template import check_template

HEAD = "FROM {{{ imagebuilder:parentImage }}} AS base\n{{{ imagebuilder:environments }}}\n"
FINISHED = "FROM debian AS base\n"


def images_of(text: str) -> list[ImageUse]:
    return list(image_uses(build_graph(parse_dockerfile(text))))


def problems(text: str) -> list[str]:
    return [problem.message for problem in check_template(HEAD + text, has_components=True)]


@pytest.mark.parametrize(
    "line",
    [
        "FROM debian", "FROM debian:12 AS x", "FROM docker.io/library/debian@sha256:" + "0" * 64,
        "FROM --platform=linux/amd64 registry.example:5000/team/app:1.0", "FROM localhost:5000/app",
        "FROM docker://quay.io/app", "FROM scratch", "FROM base", "FROM debian\nCOPY --from=base /a /b",
        "FROM debian\nCOPY --from=0 /a /b", "COPY --chown=1:1 --from=docker.io/library/alpine:3 /a /b",
        "FROM debian\nRUN --mount=type=bind,from=base,source=/,target=/y true",
        "RUN --mount=type=cache,target=/y true", "FROM debian\nRUN --mount=from=0,target=/y true", "FROM BASE",
        "FROM debian\nRUN --mount=from=base,source=/etc,target=/x true", "FROM debian AS base\nFROM base",
        "FROM debian\nRUN --mount=type=cache,from=base,source=etc,target=/x true",
        "RUN --mount=type=cache,id=a/../..,target=x true", 'RUN --mount=type=cache,target=/x,"id=a" true',
        "ARG A=b\nRUN --mount=type=cache,id=$A,target=/x true", "FROM debian\nCOPY --from=Base /a /b",
        "COPY --from=late /a /b\nFROM debian AS late", "RUN --mount=from=late,target=/y true\nFROM debian AS late",
        "FROM debian\nONBUILD COPY --from=base /a /b", "FROM debian\nCOPY --chown=x--from --from=base /a /b",
        "COPY --from={{{ imagebuilder:parentImage }}} /a /b", "RUN echo --from=ab1", "RUN it's --mount=from=ab1",
    ],
)  # fmt: skip
def test_images_of_registries_and_own_stages_may_be_named(line: str) -> None:
    """Everything that Dockerfiles usually do."""
    found = check_template(f"{HEAD}{line}\n", has_components=True)
    assert [problem for problem in found if problem.severity == "error"] == []


@pytest.mark.parametrize(
    "line",
    [
        "FROM abc", "FROM " + "0" * 64, "FROM sha256:" + "a" * 64, "FROM sha256:ab", "FROM CAFE AS x",
        "COPY --from=ab1 /a /b", "COPY --from=7 /a /b", "COPY \\\n  --from=deadbeef \\\n  /a /b",
        'COPY --from="ab1" /a /b', "ONBUILD COPY --from=ab1 /a /b",
        "RUN --mount=type=bind,from=ab1,target=/x cat /x/secret", "RUN --mount=from=ab1,target=/x true",
        "FROM containers-storage:ab1", "FROM containers-storage:[overlay@/x+/y]ab1", "FROM oci:/srv/layout",
        "FROM oci-archive:/srv/a.tar", "FROM docker-archive:/srv/a.tar", "FROM dir:/srv/x", "FROM docker-daemon:x",
        "COPY --from=$X /a /b", "FROM $UNKNOWN", "FROM ${UNKNOWN}", 'COPY --from=a"b"1 /a /b',
        "COPY --fr'om'=ab1 /a /b", 'COPY --chown="0 " --from=ab1 /a /b',
        'RUN --mount=type=bind,"from=ab1",target=/x true', "COPY --from=a\\b1 /a /b",
        "ONBUILD COPY --chown=0 --from=ab1 /a /b", "copy --from=ab1 /a /b", "FROM docker://ab1", "FROM a;b",
        "FROM containers-stor\\\nage:ab1", "COPY --fr\\\nom=ab1 /a /b", "COPY --from=\\\nab1 /a /b",
    ],
)  # fmt: skip
def test_what_could_be_somebody_elses_image_is_refused(line: str) -> None:
    """Ids, beginnings of ids, local stores, and what cannot be known before the build."""
    (message,) = problems(f"{line}\n")
    assert "cannot be named here" in message


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("ARG A=b\nRUN --mount=from=$A,target=/x true", "'from' of a mount cannot hold a variable"),
        ("ARG A=b\nRUN --mount=$A true", "a mount has no member '\\$A'"),
        ("ARG A=bind\nRUN --mount=type=$A,target=/x true", "is not a type of a mount"),
    ],
)
def test_what_a_mount_takes_is_known_from_its_text(line: str, why: str) -> None:
    """No variable says which stage or image it is."""
    (message,) = problems(f"{line}\n")
    assert re.search(why, message)


@pytest.mark.parametrize(
    "line",
    ["COPY --from=base /a /b", "COPY --from=0 /a /b", "RUN --mount=type=bind,from=base,target=/y true"],
)
def test_a_stage_takes_nothing_from_itself(line: str) -> None:
    """It is told at its line."""
    (problem,) = check_template(f"{HEAD}{line}\n", has_components=True)
    assert problem.code == "cycle" and problem.position is not None and problem.position.line == 3


@pytest.mark.parametrize(
    ("arguments", "reference", "accepted"),
    [
        ("ARG V=12", "debian:$V", True), ("ARG I=ab1", "$I", False), ("ARG I=ab1\nARG J=${I}2", "${J}", False),
        ("ARG I", "${I:-ab1}", False), ("ARG I", "${I:-debian}", True), ("ARG I=x", "${I:+ab1}", False),
        ("ARG I='ab1'", "$I", False), ("ARG R=oci", "$R:/srv/x", False), ("", "debian-$TARGETARCH", True),
    ],
)  # fmt: skip
def test_arguments_are_followed(arguments: str, reference: str, accepted: bool) -> None:
    """A default value hides nothing."""
    text = f"{arguments}\n{HEAD}FROM {reference}\n"
    assert (check_template(text, has_components=True) == []) is accepted


def test_an_argument_of_a_stage_is_none_of_the_file() -> None:
    """Only arguments before the first FROM count in a FROM."""
    assert problems("ARG I=debian\nFROM $I\n") != []


@given(st.text("0123456789abcdefABCDEF", min_size=1, max_size=70))
def test_no_text_of_hexadecimal_digits_is_accepted(reference: str) -> None:
    """The storage takes any unique beginning of an id."""
    assert problems(f"FROM {reference}\n") != []


@given(st.lists(st.sampled_from(["FROM a AS b", "FROM b", "COPY --from=b x y", "COPY --from=0 x y", "RUN x"])))
def test_stages_are_known_from_their_place_on(lines: list[str]) -> None:
    """For FROM a name is a stage only after the stage began; COPY knows later stages too."""
    uses = images_of("FROM scratch\n" + "\n".join(lines))
    stages: list[str] = [""]
    names = {"b"} if any(line.endswith(" AS b") for line in lines) else set()
    last = sum(line.startswith("FROM") for line in lines)
    expected = []
    for index, line in enumerate(lines, start=1):
        words = line.split()
        if words[0] == "FROM":
            if words[1] not in stages:
                expected.append((index, words[1]))
            stages.append("b" if len(words) > 2 else "")
        elif "--from" in line:
            source = words[1].removeprefix("--from=")
            if source not in names and not (source.isdigit() and int(source) <= last):
                expected.append((index, source))
    assert [(use.index, use.image) for use in uses] == expected


@pytest.mark.parametrize(
    "line",
    [
        "COPY --chown=b\u00fccher --from=base /a /b",
        "COPY --from=base\u2003/a /b",
        "RUN --mount=type=cache,target=/\u00e9 true",
        "ADD --chown=\u6f22 http://a.example/b /b",
    ],
)
def test_flags_are_written_in_ascii(line: str) -> None:
    """Docker looks for white space byte by byte: its flags might not be those that were checked."""
    text = f"FROM debian AS base\nFROM debian\n{line}\n"
    assert "flag-value" in [problem.code for problem in parse_dockerfile(text).problems]


def test_microseconds_are_a_duration_in_both_spellings() -> None:
    """The letter is the one thing in a flag that is no ASCII and means something."""
    for letter in ("\u00b5", "\u03bc"):
        assert parse_dockerfile(f"FROM debian\nHEALTHCHECK --interval=2000{letter}s CMD x\n").problems == ()


def test_a_number_with_leading_zeros_is_no_stage() -> None:
    """Builders do not agree on it."""
    assert [use.problem for use in images_of("FROM debian\nFROM debian\nCOPY --from=00 /a /b\n") if use.problem]
