"""Checks of Dockerfile templates."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesmith.dockerfiles.parser import parse_dockerfile
from imagesmith.dockerfiles.template import check_template, runs_components, unreadable_lines

PARENT = "FROM {{{ imagebuilder:parentImage }}}"
ENVIRONMENTS = "{{{ imagebuilder:environments }}}"
COMPONENTS = "{{{ imagebuilder:components }}}"


def codes(text: str, *, has_components: bool = True) -> list[str]:
    return [problem.code for problem in check_template(text, has_components=has_components)]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([PARENT, ENVIRONMENTS, COMPONENTS], []),
        (["FROM {{{imagebuilder:parentImage}}} AS x", "{{{imagebuilder:environments}}}"], []),
        ([PARENT], ["no-environments"]),
        (["FROM scratch", ENVIRONMENTS], ["no-parent"]),
        ([], ["no-from", "no-parent", "no-environments"]),
        ([PARENT, COMPONENTS, ENVIRONMENTS], ["components-first"]),
        ([ENVIRONMENTS, PARENT], ["before-from"]),
        ([PARENT, ENVIRONMENTS, COMPONENTS, COMPONENTS], ["variable-twice"]),
        ([PARENT, "RUN {{{ imagebuilder:magic }}}", ENVIRONMENTS], ["unknown-variable"]),
        ([PARENT, f"RUN {ENVIRONMENTS}", ENVIRONMENTS], ["not-alone"]),
        ([PARENT, ENVIRONMENTS, "RUN cat <<EOF", "EOF"], []),
        ([PARENT, ENVIRONMENTS, "RUN cat <<EOF"], ["heredoc"]),
        ([PARENT, ENVIRONMENTS, "RUN cat <<< word && echo $((1<<2))"], []),
        ([PARENT, ENVIRONMENTS, "??"], ["no-instruction"]),
    ],
)
def test_every_fault_of_a_template_is_found(lines: list[str], expected: list[str]) -> None:
    """All faults at once, each by its code."""
    assert codes("\n".join(lines)) == expected


def test_a_fault_tells_its_line() -> None:
    """Positions count lines from one, continuation lines included."""
    (problem,) = check_template(f"{PARENT}\nRUN a \\\n  b\nRUN <<EOF\n{ENVIRONMENTS}", has_components=True)
    assert problem.position is not None and problem.position.line == 4


def test_a_recipe_without_components_needs_no_environments() -> None:
    """Only the parent is always required."""
    assert codes(PARENT, has_components=False) == []


def test_a_template_says_whether_components_run() -> None:
    """They do where their variable stands."""
    assert runs_components(f"{PARENT}\n{ENVIRONMENTS}\n{COMPONENTS}\n")
    assert not runs_components(f"{PARENT}\n{ENVIRONMENTS}\nRUN a\n")


@given(st.text(alphabet="FROM RUN<>{}\\`#\n\timagebuilder:=", max_size=200))
def test_any_text_gives_problems_and_never_an_exception(text: str) -> None:
    """Strangers write templates."""
    check_template(text, has_components=True)
    runs_components(text)


@pytest.mark.parametrize("character", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_what_ends_no_line_for_the_builder_stays_in_its_command(character: str) -> None:
    """What Unicode counts as the end of a line is part of a command for the builder."""
    command = f"RUN echo a{character}USER nobody"
    text = f"{PARENT}\r\n{command}\r\n"
    assert codes(text, has_components=False) == []
    assert parse_dockerfile(text).instructions[1].source.text == command


@pytest.mark.parametrize("line", ["LABLE a=b", "EXPOSE", "LABEL a", "WORKDIR", "ENV A=1 B", "ONBUILD FROM x"])
def test_a_stored_line_that_cannot_be_read_is_named_and_never_left_out(line: str) -> None:
    """An older version stored it; a build of the template would carry out the other lines only."""
    text = f"FROM {{{{{{ imagebuilder:parentImage }}}}}}\n{line}\nRUN true\n"
    (problem,) = unreadable_lines(text)
    assert problem.position is not None and problem.position.line == 2


def test_a_variable_of_the_parent_may_begin_a_url() -> None:
    """Its value is not known when the recipe is made; a COPY never downloads."""
    text = f"{PARENT}\n{ENVIRONMENTS}\n{COMPONENTS}\n"
    assert codes(f"{text}ADD $BASE/x.tgz /x\n") == []
    assert codes(f"{text}COPY $BASE/x.tgz /x\n") == ["no-context"]


def test_the_variable_of_the_parent_stands_on_one_line() -> None:
    """It is filled in as text, which a continued line would break."""
    text = f"FROM {{{{{{ imagebuilder:\\\nparentImage }}}}}}\n{ENVIRONMENTS}\n{COMPONENTS}\n"
    assert codes(text) == ["broken-variable"]
