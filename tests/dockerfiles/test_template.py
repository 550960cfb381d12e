"""Dockerfile templates: checks, and the cut at the components variable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesmith.dockerfiles.placeholders import fill_parent
from imagesmith.dockerfiles.template import (
    DockerfileParts,
    check_template,
    read_problems,
    split_template,
    unreadable_lines,
)

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
        ([PARENT, ENVIRONMENTS, "RUN cat <<EOF", "EOF"], ["heredoc"]),
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


def test_components_right_on_the_parent_need_no_build_before_or_after() -> None:
    """The two fast paths: nothing for buildah to build."""
    parts = split_template(f"# a comment\n{PARENT}\n{ENVIRONMENTS}\n{COMPONENTS}\n")
    assert parts == DockerfileParts("", "", True)


def test_what_stands_before_and_after_is_built_there() -> None:
    """ARG and SHELL of the stage are declared again behind the cut."""
    text = f'{PARENT}\n{ENVIRONMENTS}\nARG A=1\nSHELL ["bash", "-c"]\nRUN a \\\n  b\n{COMPONENTS}\nRUN echo $A\n'
    parts = split_template(text)
    assert parts.before == f'{PARENT}\nARG A=1\nSHELL ["bash", "-c"]\nRUN a \\\n  b\n'
    assert parts.after == f'FROM {DockerfileParts.BASE}\nARG A=1\nSHELL ["bash", "-c"]\nRUN echo $A\n'


def test_a_cut_in_a_middle_stage_keeps_the_stages_that_are_used() -> None:
    """Earlier stages are built again only when something after the cut uses them, by name or by number."""
    head = f"ARG V=1\nFROM tools:$V AS tools\nRUN t\n{PARENT} AS main\n{ENVIRONMENTS}\n{COMPONENTS}\n"
    unused = split_template(f"{head}FROM scratch\nCOPY --from=main /a /a\n")
    assert unused.before == f"ARG V=1\nFROM tools:$V AS tools\nRUN t\n{PARENT} AS main\n"
    assert unused.after == f"ARG V=1\nFROM {DockerfileParts.BASE} AS main\nFROM scratch\nCOPY --from=main /a /a\n"
    for flag in ("--from=TOOLS", "--from=0"):
        used = split_template(f"{head}COPY {flag} /t /t\n")
        assert used.after.startswith(
            f"ARG V=1\nFROM tools:$V AS tools\nRUN t\nFROM {DockerfileParts.BASE} AS main\n"
        )


def test_another_escape_character_is_translated() -> None:
    """The directive goes, the meaning stays."""
    parts = split_template(f"# escape=`\n{PARENT}\nRUN a `\n  b\n{ENVIRONMENTS}\n{COMPONENTS}\n")
    assert parts.before == f"{PARENT}\nRUN a \\\n  b\n"


def test_without_the_components_variable_everything_is_built_before() -> None:
    """And the parts say that components do not run."""
    parts = split_template(f"{PARENT}\n{ENVIRONMENTS}\nRUN a\n")
    assert parts == DockerfileParts(f"{PARENT}\nRUN a\n", "", False)


def test_the_parent_is_filled_in_everywhere() -> None:
    """With and without blanks, nothing else is touched."""
    text = "FROM {{{imagebuilder:parentImage}}}\nRUN echo {{ x }}\n"
    assert fill_parent(text, "sha256:abc") == "FROM sha256:abc\nRUN echo {{ x }}\n"


LINE = st.sampled_from(
    ["RUN a", "ENV A=b", "COPY x /x", "LABEL a=b \\\n  c=d", "USER app", 'CMD ["x"]', "WORKDIR /w"]
)


@given(before=st.lists(LINE), after=st.lists(LINE))
def test_a_cut_loses_and_moves_no_instruction(before: list[str], after: list[str]) -> None:
    """Both parts together are the template's instructions in order."""
    text = "\n".join([PARENT, ENVIRONMENTS, *before, COMPONENTS, *after, ""])
    parts = split_template(text)
    expected_before = "\n".join([PARENT, *before, ""]) if before else ""
    expected_after = "\n".join([f"FROM {DockerfileParts.BASE}", *after, ""]) if after else ""
    assert (parts.before, parts.after) == (expected_before, expected_after)


@given(st.text(alphabet="FROM RUN<>{}\\`#\n\timagebuilder:=", max_size=200))
def test_any_text_gives_problems_or_parts_and_never_an_exception(text: str) -> None:
    """Strangers write templates."""
    check_template(text, has_components=True)
    if not check_template(text, has_components=False):
        split_template(text)


def test_a_command_survives_an_entrypoint_after_the_cut() -> None:
    """An ENTRYPOINT empties a CMD that an earlier image set, so the CMD of the same stage is set again first."""
    parts = split_template(f'{PARENT}\n{ENVIRONMENTS}\nCMD ["a"]\nCMD ["b"]\n{COMPONENTS}\nENTRYPOINT ["c"]\n')
    assert parts.after == f'FROM {DockerfileParts.BASE}\nCMD ["b"]\nENTRYPOINT ["c"]\n'


@pytest.mark.parametrize("character", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_what_ends_no_line_for_the_builder_stays_in_its_command(character: str) -> None:
    """What Unicode counts as the end of a line is part of a command for the builder."""
    command = f"RUN echo a{character}USER nobody"
    text = f"{PARENT}\r\n{command}\r\n"
    assert codes(text, has_components=False) == []
    assert split_template(text).before == f"{PARENT}\n{command}\n"


@pytest.mark.parametrize("line", ["LABLE a=b", "EXPOSE", "LABEL a", "WORKDIR", "ENV A=1 B", "ONBUILD FROM x"])
def test_a_stored_line_that_cannot_be_read_is_named_and_never_left_out(line: str) -> None:
    """An older version stored it; a cut of the template would hold the other lines only."""
    text = f"FROM {{{{{{ imagebuilder:parentImage }}}}}}\n{line}\nRUN true\n"
    (problem,) = unreadable_lines(text)
    assert problem.position is not None and problem.position.line == 2


def test_a_stage_keeps_the_letters_of_its_name() -> None:
    """What stands behind the components uses the name as it was written."""
    text = (
        f"{PARENT} AS Base\n{ENVIRONMENTS}\n{COMPONENTS}\nFROM docker.io/library/debian\nCOPY --from=Base /a /b\n"
    )
    assert codes(text) == []
    after = split_template(text).after
    assert f"FROM {DockerfileParts.BASE} AS Base\n" in after
    assert read_problems(after) == []


def test_a_variable_of_the_parent_may_begin_a_url() -> None:
    """Its value is not known when the recipe is made; a COPY never downloads."""
    text = f"{PARENT}\n{ENVIRONMENTS}\n{COMPONENTS}\n"
    assert codes(f"{text}ADD $BASE/x.tgz /x\n") == []
    assert codes(f"{text}COPY $BASE/x.tgz /x\n") == ["no-context"]


def test_the_variable_of_the_parent_stands_on_one_line() -> None:
    """It is filled in as text, which a continued line would break."""
    text = f"FROM {{{{{{ imagebuilder:\\\nparentImage }}}}}}\n{ENVIRONMENTS}\n{COMPONENTS}\n"
    assert codes(text) == ["broken-variable"]
