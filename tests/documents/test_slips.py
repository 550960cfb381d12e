"""The commonest slips of YAML: each is told where it stands, with what to write instead."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesmith.components.grammar import parse_component
from imagesmith.documents.slips import find_slip
from imagesmith.values.diagnostics import Position
from imagesmith.workflow_documents.grammar import parse_workflow

HEAD = """\
schemaVersion: 1.0
parameters:
  - Dir: {type: string, default: /x}
phases:
  - name: build
    steps:
      - name: Step
        action: ExecuteBash
        inputs:
          commands:
"""
FILE = HEAD.replace("ExecuteBash", "CreateFile").rpartition("          commands")[0]
GOOD = HEAD + "            - 'true'\n"

SLIPS = {
    "reference and more": (
        FILE + "          - path: {{ Dir }}/y\n            content: a\n",
        10, 19, "'{{ Dir }}/y'",
    ),
    "reference alone": (FILE + "          - path: {{ Dir }}\n            content: a\n", 10, 19, "'{{ Name }}'"),
    "reference first": (HEAD + "            - {{ Dir }}/run.sh\n", 11, 15, "'{{ Dir }}/run.sh'"),
    "test": (HEAD + "            - [ -f x ] && echo y\n", 11, 15, "'[ -f x ] && echo y'"),
    "test of bash": (HEAD + "            - [[ -f x ]] && echo y\n", 11, 15, "'[[ -f x ]] && echo y'"),
    "test alone": (HEAD + "            - [ -f x ]\n", 11, 15, "'[ -f x ]'"),
    "here-document": (HEAD + "            - |\n              cat >/x <<EOF\nhello\nEOF\n              :\n", 13, 1,
                      "indent the here-document by 14 spaces"),
    "here-document of pairs": (HEAD + "            - |\n              cat >/x <<'EOF'\na=b\n[c]\nEOF\n", 13, 1,
                               "it belongs to the block of line 11"),
    "here-document of YAML": (
        HEAD + "            - |\n              cat >/x <<-EOF\na: b\nEOF\n",
        13, 1, "14 spaces",
    ),
    "here-document of a line": (HEAD + "            - cat >/x <<EOF\nhello\nEOF\n", 11, 15, "write '|' here"),
    "here-document of a line with pairs": (
        HEAD + "            - cat >/x <<'EOF'\na: b\nEOF\n            - 'true'\n",
        11, 15, "write '|' here",
    ),
    "block at the left": (HEAD + "            - |\necho hello\n", 12, 1, "further than line 11"),
    "tab": (HEAD + "\t    - true\n", 11, 1, "there is a tab here"),
    "tab after a dash": (HEAD + "            -\ttrue\n", 11, 14, "there is a tab here"),
    "no-break space": (GOOD.replace("        action", "       \u00a0action"), 8, 8, "no-break space"),
    "no-break space after a colon": (GOOD.replace("action: ", "action:\u00a0"), 8, 16, "no-break space"),
    "no-break space after a dash": (
        HEAD + "            -\u00a0true\n",
        11, 13, "write a space after each '-': a no-break space",
    ),
    "no-break space at the end": (GOOD.replace("phases:", "phases:\u00a0"), 4, 8, "no-break space"),
    "byte-order mark inside": (GOOD.replace("phases", "\ufeffphases"), 4, 1, "byte-order mark"),
    "phases as a mapping": ("schemaVersion: 1.0\nphases:\n  build:\n    steps: []\n", 3, 3, "'- name: build'"),
    "steps as a mapping": ("schemaVersion: 1.0\nphases:\n  - name: build\n    steps:\n      One: {}\n", 5, 7,
                           "'- name: One'"),
    "parameters as a mapping": (GOOD.replace("  - Dir: {type", "  Dir: {type"), 3, 3, "'- Dir:'"),
    "commands as a text": (HEAD.rstrip() + " echo hi\n", 10, 21, "begin with '- '"),
    "inputs as a list": (
        GOOD.replace("          commands:", "          - commands:"),
        10, 11, "remove the '- '",
    ),
    "no blank after a dash": (HEAD + "            -true\n", 11, 13, "write a space after each '-'"),
    "no blank after a colon": (GOOD.replace("action: E", "action:E"), 8, 15, "missing after the colon: action: E"),
    "no blank in the first line": (GOOD.replace("schemaVersion: ", "schemaVersion:"), 1, 14, "schemaVersion: 1.0"),
    "no blank after the colon of a phase": (GOOD.replace("- name: build", "- name:build"), 5, 9, "name: build"),
    "key twice": (GOOD + "          commands: [x]\n", 12, 11, "remove one of the two"),
    "colon in a command": (HEAD + "            - echo a: b\n", 11, 15, "'echo a: b'"),
    "colon of a header": (
        HEAD + "            - curl -H Accept: text/plain\n",
        11, 15, "'curl -H Accept: text/plain'",
    ),
    "star": (HEAD + "            - *.txt\n", 11, 15, "'*.txt'"),
    "star of an alias": (HEAD + "            - *log\n", 11, 15, "quote a string that starts with *"),
    "percent": (HEAD + "            - %x\n", 11, 15, "'%x'"),
    "at": (HEAD + "            - @echo off\n", 11, 15, "'@echo off'"),
    "backtick": (HEAD + "            - `date`\n", 11, 15, "'`date`'"),
    "exclamation mark": (HEAD + "            - ! true\n", 11, 15, "'! true'"),
    "colon": (HEAD + "            - : > /tmp/log\n", 11, 15, "': > /tmp/log'"),
    "parameters as mapping": ("schemaVersion: 1.0\nparameters: {Port: 80}\n", 2, 13, "as in '- Port:'"),
    "steps without dashes": (GOOD.replace("- name: Step", "  name: Step"), 7, 9, "as in '- name: Step'"),
    "greater than": (HEAD + "            - >/tmp/x echo hi\n", 11, 15, "'>/tmp/x echo hi'"),
    "bar": (HEAD + "            - | grep x\n", 11, 15, "'| grep x'"),
    "quotes around a word": (HEAD + '            - "foo" bar\n', 11, 15, "'\"foo\" bar'"),
    "single quotes around a word": (HEAD + "            - 'foo' | bar\n", 11, 15, "'''foo'' | bar'"),
    "quote that stays open": (HEAD + '            - "echo hi\n', 11, 15, "never closed"),
    "backslash in double quotes": (HEAD + '            - "grep \\d x"\n', 11, 21, "use single quotes"),
    "yes": (FILE + "          - {path: /x, overwrite: yes}\n", 10, 35, "write true"),
    "off": (GOOD.replace("schemaVersion: 1.0", "schemaVersion: 1.0\ndisableLogging: off"), 2, 17, "write false"),
    "indented too far": (GOOD.replace("        action", "         action"), 8, 16, "indent the line exactly"),
    "indented too little": (GOOD.replace("        action", "       action"), 8, 8, "indent the line exactly"),
    "Markdown": (f"```yaml\n{GOOD}```\n", 1, 1, "Markdown"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "line", "column", "hint"), SLIPS.values(), ids=SLIPS.keys())
def test_a_slip_is_told_at_its_place_with_what_to_write(text: str, line: int, column: int, hint: str) -> None:
    """One of the problems stands where the slip is, and its hint fits."""
    told = [(problem.position, problem.hint) for problem in parse_component(text).errors]
    assert any(place == Position(line, column) and hint in found for place, found in told), told


@pytest.mark.parametrize(
    ("text", "code"),
    [(HEAD + "            - &bg sleep 1\n", "yaml-anchor"),
     (HEAD + "            - \u201cecho hi\u201d\n", "yaml-quote"),
     (HEAD + "            - \u2018echo hi\u2019\n", "yaml-quote"),
     (HEAD + "            - cat >/x <<EOF\n              hello\n              EOF\n", "yaml-folded"),
     (HEAD + "            - >\n              cat <<EOF\n              hello\n              EOF\n", "yaml-folded"),
     (HEAD + "            - \"cat >/x <<EOF\n              hello\n              EOF\"\n", "yaml-folded")],
)  # fmt: skip
def test_what_yaml_takes_in_silence_is_a_warning(text: str, code: str) -> None:
    """An anchor that nobody names, quotes that are none, here-documents whose lines become one."""
    parsed = parse_component(text)
    assert parsed.document is not None
    (problem,) = parsed.problems
    assert (problem.code, problem.severity, problem.position) == (code, "warning", Position(11, 15))


@pytest.mark.parametrize(
    "text",
    [GOOD.replace("\n", "\r\n"), "\ufeff" + GOOD, GOOD + "\n# end\n", "---\n" + GOOD,
     HEAD + "            - &one 'true'\n            - *one\n", HEAD + "            - it\u2019s fine\n",
     HEAD + "            - |\n              cat <<EOF\n              a: b\n              EOF\n"],
)  # fmt: skip
def test_what_is_no_slip_is_left_alone(text: str) -> None:
    """Line ends of Windows, a byte-order mark at the beginning, an anchor that is used, an apostrophe in a text."""
    assert parse_component(text).problems == ()


def test_utf_16_is_told() -> None:
    """Notepad writes it."""
    (problem,) = parse_component(GOOD.encode("utf-16")).errors
    assert "save it as UTF-8" in problem.hint


def test_workflows_have_the_same_hints() -> None:
    """The text is read by the same code."""
    text = "schemaVersion: 1.0\nsteps:\n  - name: One\n    action:WaitForAction\n"
    assert "a space is missing" in parse_workflow(text, "TEST").errors[0].hint


@given(st.text(st.sampled_from("ab:-|>[]{}\"'`*&%@!#,\t\n \u00a0<EOF"), max_size=200), st.integers(1, 30))
def test_any_text_has_a_slip_or_none(text: str, line: int) -> None:
    """Looking for slips never fails, and points into the text."""
    for said in ("mapping values are not allowed", "found a quoted scalar", "did not find expected key"):
        slip = find_slip(text, Position(line, 1), said, Position(line, 2))
        assert slip is None or slip.position.line >= 1


def test_hostile_lines_are_looked_at_in_linear_time() -> None:
    """No line makes the search come back to its beginning over and over."""
    begun = time.monotonic()
    for line in ("- " * 30_000, " " * 60_000 + "x", "a" * 60_000, "<<" * 30_000, "\t" * 60_000, "'" * 60_000):
        find_slip(f"a: |\n  b\n{line}\n", Position(3, 1), "did not find expected key")
    assert time.monotonic() - begun < 20
