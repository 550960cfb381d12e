"""Images that a Dockerfile may name: those of registries, and nothing that is in the storage already."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesmith.recipes.dockerfile import check_template
from imagesmith.recipes.references import image_uses, takes_from_images

HEAD = "FROM {{{ imagebuilder:parentImage }}} AS base\n{{{ imagebuilder:environments }}}\n"


def problems(text: str) -> list[str]:
    return [problem.message for problem in check_template(HEAD + text, has_components=True)]


@pytest.mark.parametrize(
    "line",
    [
        "FROM debian", "FROM debian:12 AS x", "FROM docker.io/library/debian@sha256:" + "0" * 64,
        "FROM --platform=linux/amd64 registry.example:5000/team/app:1.0", "FROM localhost:5000/app",
        "FROM docker://quay.io/app", "FROM scratch", "FROM base", "FROM BASE", "COPY --from=base /a /b",
        "COPY --from=0 /a /b", "COPY --chown=1:1 --from=docker.io/library/alpine:3 /a /b",
        "RUN --mount=type=bind,from=base,source=/x,target=/y true", "RUN --mount=type=cache,target=/y true",
        "COPY --from={{{ imagebuilder:parentImage }}} /a /b", "RUN echo --from=ab1", "RUN it's --mount=from=ab1",
        "COPY a --from=ab1 b",
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
        "ONBUILD ONBUILD COPY --from=ab1 /a /b", "copy --from=ab1 /a /b", "FROM docker://ab1", "FROM a;b",
    ],
)  # fmt: skip
def test_what_could_be_somebody_elses_image_is_refused(line: str) -> None:
    """Ids, beginnings of ids, local stores, and what cannot be known before the build."""
    (message,) = problems(f"{line}\n")
    assert "cannot be named here" in message


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
    """A name or number is a stage only after the stage began; before, it is an image."""
    uses = list(image_uses((line.split()[0], line) for line in lines))
    stages: list[str] = []
    expected = []
    for index, line in enumerate(lines):
        words = line.split()
        if words[0] == "FROM":
            if words[1] not in stages:
                expected.append((index, words[1]))
            stages.append("b" if len(words) > 2 else "")
        elif "--from" in line:
            source = words[1].removeprefix("--from=")
            if source not in stages and not (source.isdigit() and int(source) < len(stages)):
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
    assert takes_from_images(trigger) is taken
