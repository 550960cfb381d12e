"""Images that a Dockerfile may name: those of registries, and nothing that is in the storage already."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesmith.dockerfiles.images import takes_from_images
from imagesmith.dockerfiles.template import check_template, images_of, read_problems, with_checked_images
from imagesmith.dockerfiles.triggers import parse_trigger

HEAD = "FROM {{{ imagebuilder:parentImage }}} AS base\n{{{ imagebuilder:environments }}}\n"
FINISHED = "FROM debian AS base\n"


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
        "RUN --mount=type=cache,target=/y true",
        "COPY --from={{{ imagebuilder:parentImage }}} /a /b", "RUN echo --from=ab1", "RUN it's --mount=from=ab1",
    ],
)  # fmt: skip
def test_images_of_registries_and_own_stages_may_be_named(line: str) -> None:
    """Everything that Dockerfiles usually do."""
    assert problems(f"{line}\n") == []


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
        ("FROM debian\nRUN --mount=from=base,source=/etc,target=/x true", "cannot take a part of a stage or image"),
        (
            "FROM debian\nRUN --mount=type=cache,from=base,source=etc,target=/x true",
            "cannot take a part of a stage or image",
        ),
        ("RUN --mount=type=bind,source=$A,target=/x true", "cannot contain a variable"),
        ("RUN --mount=type=bind,source=a/../..,target=/x true", "cannot contain '..'"),
        ("RUN --mount=type=cache,target=/x,dst=/y true", "cannot have a member twice"),
        ("RUN --mount=type=cache,id=/,target=/x true", "cannot be the folder of all caches"),
        ("RUN --mount=type=cache,id=./.,target=/x true", "cannot be the folder of all caches"),
        ("RUN --mount=type=cache,target=x true", "cannot have a relative target without an id"),
        ("RUN --mount=type=cache,target=/x,id=a\\\\b true", "cannot contain a quote or an escape character"),
        ('RUN --mount=type=cache,target=/x,\\"id=a\\" true', "cannot contain a quote or an escape character"),
    ],
)
def test_a_refused_mount_is_called_a_mount(line: str, why: str) -> None:
    """Its text is not told as that of an image."""
    (message,) = problems(f"{line}\n")
    assert message.startswith("the mount '") and re.search(f"' cannot be made: a (mount|cache) {why}", message)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("COPY --from=base /a /b", "cycle"),
        ("COPY --from=0 /a /b", "cycle"),
        ("RUN --mount=type=bind,from=base,target=/y true", "cycle"),
        ("COPY --from=late /a /b\nFROM debian AS late", "later-stage"),
        ("RUN --mount=from=late,target=/y true\nFROM debian AS late", "later-stage"),
        ("FROM BASE", "stage-case"),
        ("FROM debian\nRUN --mount=from=0,target=/y true", "mount-number"),
        ("FROM debian\nCOPY --from=Base /a /b", "stage-case"),
        ("FROM debian AS base\nFROM base", "stage-twice"),
        ("FROM debian\nONBUILD COPY --from=base /a /b", "onbuild-stage"),
        ("FROM debian\nONBUILD RUN --mount=from=base,target=/y true", "onbuild-stage"),
        ("FROM debian\nCOPY --chown=x--from --from=base /a /b", "flag"),
    ],
)
def test_a_stage_that_the_builder_would_take_for_an_image_is_refused(line: str, code: str) -> None:
    """When the recipe is made, and in all that is built: the builder would look in the storage of everybody."""
    for problem in (*check_template(f"{HEAD}{line}\n", has_components=True), *read_problems(f"{FINISHED}{line}\n")):
        if problem.severity == "error":
            assert (problem.code, problem.position.line > 1 if problem.position else False) == (code, True)
    assert [item.code for item in read_problems(f"{FINISHED}{line}\n")] == [code]


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
    """buildah takes any unique beginning of an id."""
    assert problems(f"FROM {reference}\n") != []


@given(st.lists(st.sampled_from(["FROM a AS b", "FROM b", "COPY --from=b x y", "COPY --from=0 x y", "RUN x"])))
def test_stages_are_known_from_their_place_on(lines: list[str]) -> None:
    """For FROM a name is a stage only after the stage began; COPY knows later stages too, which are refused yet."""
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
    ("trigger", "taken"),
    [
        ("COPY --from=ab1 /a /b", True),
        ("RUN --mount=type=bind,from=x true", True),
        ("COPY . /app", False),
        ("RUN x", False),
    ],
)
def test_triggers_that_take_from_images_are_known(trigger: str, taken: bool) -> None:
    """ONBUILD instructions of a parent run in the build that names it."""
    assert takes_from_images(parse_trigger(trigger)) is taken


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
    """The builder looks for white space byte by byte: its flags might not be those that were checked."""
    text = f"FROM debian AS base\nFROM debian\n{line}\n"
    assert "flag-value" in [problem.code for problem in read_problems(text)]


def test_microseconds_are_a_duration_in_both_spellings() -> None:
    """The letter is the one thing in a flag that is no ASCII and means something."""
    for letter in ("\u00b5", "\u03bc"):
        assert read_problems(f"FROM debian\nHEALTHCHECK --interval=2000{letter}s CMD x\n") == []


def test_a_number_with_leading_zeros_is_no_stage() -> None:
    """Builders do not agree on it."""
    assert [use.problem for use in images_of("FROM debian\nFROM debian\nCOPY --from=00 /a /b\n") if use.problem]


def test_the_builder_gets_the_images_that_were_checked() -> None:
    """Variables of FROM are replaced before: builders differ in which of them they know."""
    text = 'ARG V=12\nFROM --platform=linux/amd64 debian:${V} AS Base\nRUN echo $V\nFROM Base\nFROM "scratch"\n'
    assert with_checked_images(text) == (
        "ARG V=12\nFROM --platform=linux/amd64 debian:12 AS Base\nRUN echo $V\nFROM Base\nFROM scratch\n"
    )


def test_a_from_line_is_never_more_words_than_were_checked() -> None:
    """A value with blanks would bring a name or a platform of its own."""
    with pytest.raises(ValueError, match="one word"):
        with_checked_images('ARG I="debian AS x"\nFROM $I\n')


@pytest.mark.parametrize("quote", ["", '"', "'"])
def test_caches_are_not_locked_in_the_builder(quote: str) -> None:
    """A cache belongs to one build, whose steps run one after the other."""
    mount = f"--mount={quote}type=cache,id=a,sharing=locked,target=/a{quote}"
    text = f"FROM debian\nRUN {mount} \\\n --mount=type=cache,target=/b echo sharing=locked\n"
    assert check_template(f"{HEAD}{text}", has_components=True) == []
    assert with_checked_images(text) == (
        "FROM debian\nRUN --mount=type=cache,id=a,target=/a \\\n --mount=type=cache,target=/b echo sharing=locked\n"
    )


def test_a_lock_that_cannot_be_left_out_is_refused() -> None:
    """Of a trigger it would be in the image, and a mount that is written in pieces is not found."""
    trigger = "FROM debian\nONBUILD RUN --mount=type=cache,sharing=locked,target=/a true\n"
    assert [problem.code for problem in read_problems(trigger)] == ["mount-member"]
    with pytest.raises(ValueError, match="leave sharing=locked out"):
        with_checked_images("FROM debian\nRUN --mount=type=cache,sharing=\\\nlocked,target=/a true\n")
