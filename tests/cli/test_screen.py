"""On a terminal, text from outside cannot drive it; files and pipes get its bytes."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesmith.build_logs.logs import LogReader
from imagesmith.cli.context import json_text
from imagesmith.values.visible import visible

ATTACKS = {
    "clear the screen": "\x1b[2J", "set the title": "\x1b]0;pwned\x07", "a link": "\x1b]8;;http://x\x1b\\\\",
    "clipboard": "\x1b]52;c;aGk=\x07", "device control": "\x1bP$q\x1b\\\\", "hidden": "\x1b[8m", "reset": "\x1bc",
    "C1 CSI": "\x9b2J", "C1 OSC": "\x9d0;t\x9c", "return": "good\rbad", "backspace": "bad\b\b\b", "bell": "\a",
    "vertical tab": "\v", "form feed": "\f", "delete": "\x7f", "null": "\0", "shift out": "\x0e",
    "right to left": "\u202egpj.exe", "isolate": "\u2066x\u2069", "mark": "\u200f", "arabic mark": "\u061c",
    "zero width": "a\u200bb", "joiner": "a\u200db", "word joiner": "\u2060", "byte order mark": "\ufeff",
    "soft hyphen": "a\u00adb", "tag": "\U000e0041", "line separator": "\u2028", "paragraph separator": "\u2029",
    "next line": "\x85", "filler": "\u3164", "selector": "\U000e0100", "private": "\ue000", "surrogate": "\udc9b",
    "interlinear": "\ufff9",
}  # fmt: skip
DRIVERS = [chr(code) for code in (*range(9), 11, 12, *range(14, 32), *range(127, 160))]


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_what_is_not_seen_is_written_out(attack: str) -> None:
    """Nothing that drives or hides is left, and it can be told what was there."""
    shown = visible(attack)
    assert all(char.isprintable() for char in shown)
    assert shown.encode().decode("unicode_escape", errors="replace") == attack or "\\" in shown


@given(st.text())
def test_only_seen_characters_are_left(text: str) -> None:
    """Whatever comes; what is seen stays as it is, and line feed and tab stay."""
    shown = visible(text)
    assert all(char in "\n\t" or char.isprintable() or char.isspace() for char in shown)
    assert not set(DRIVERS) & set(shown)
    assert visible(shown) == shown


@given(st.text())
def test_json_is_printable_ascii(text: str) -> None:
    """And is still the same value."""
    shown = json_text({text: [text]})
    assert shown.isascii() and shown.isprintable() and json.loads(shown) == {text: [text]}


@pytest.mark.parametrize("text", ["grün", "日本語", "naïve — “quoted”", "a\tb", "☃ ✓ 🙂", "x\xa0y"])
def test_ordinary_text_stays(text: str) -> None:
    """Accents, other scripts, signs."""
    assert visible(text) == text


PROGRAM = """
import logging, sys
from imagesmith.cli.context import CommandFailed, print_json
from imagesmith.cli import main
from imagesmith.cli.screen import echo, make_console, redraw, start_logging, styled
import click
from rich.table import Table
from rich.text import Text
attack = sys.argv[1].encode("utf-8", "surrogateescape").decode("unicode_escape")
echo("echo ", styled("own", fg="red"), attack, fg="green")
table = Table("name"); table.add_row(attack); table.add_row(Text(attack)); make_console().print(table)
make_console().print(Text(attack), soft_wrap=True, highlight=False)
print_json({attack: attack})
start_logging("warning")
logging.getLogger("x").warning("log %s", attack)
@click.command()
def fails(): raise CommandFailed(attack, attack)
@click.command()
@click.argument("number", type=int)
def takes(number): pass
for command in (fails, takes):
    sys.argv = ["x", attack]
    main.commands = lambda standalone_mode, command=command: command(
        [] if command is fails else [attack], standalone_mode=False)
    try:
        main.main()
    except SystemExit:
        pass
"""


def on_a_terminal(*command: str) -> bytes:
    """All that a program writes to a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"},
    ) as process:  # fmt: skip
        os.close(theirs)
        found = b""
        while True:
            try:
                chunk = os.read(ours, 65536)
            except OSError:  # the other side is closed
                break
            if not chunk:
                break
            found += chunk
        os.close(ours)
        assert process.wait(60) == 0
    return found


@pytest.mark.parametrize(
    "name", ["clear the screen", "set the title", "C1 CSI", "backspace", "right to left", "tag"]
)
def test_no_way_to_the_terminal_lets_it_through(name: str) -> None:
    """Lines, tables, errors, usage errors, the log: only our own colours reach a pseudo-terminal."""
    attack = ATTACKS[name]
    written = attack.encode("unicode_escape").decode()
    raw = on_a_terminal(sys.executable, "-c", PROGRAM, written).decode()
    assert attack not in raw
    assert "\x1b[31mown\x1b[0m" in raw  # colours of our own are still there
    assert written.replace("\\x07", "")[:6] in raw
    for driver in ("\x1b]", "\x1bP", "\x1b[2J", "\x9b", "\x9d", "\x08", "\x07", "\u202e", "\U000e0041"):
        assert driver not in raw


def test_pipes_get_the_bytes() -> None:
    """What is kept in a file is what was said."""
    command = [sys.executable, "-c", "from imagesmith.cli.screen import echo; echo('a\\x1b[2J\\u202eb')"]
    assert subprocess.run(command, capture_output=True, check=True).stdout == "a\x1b[2J\u202eb\n".encode()


def test_no_command_prints_by_another_way() -> None:
    """click's own functions and print() are used in screen.py only, rich's console in rich_console.py."""
    folder = Path(__file__).parents[2] / "src/imagesmith/cli"
    for path in folder.glob("*.py"):
        if path.name in ("screen.py", "rich_console.py"):
            continue
        text = path.read_text()
        assert "click.echo" not in text and "click.secho" not in text and "click.style" not in text, path
        assert " Console(" not in text and "=Console(" not in text, path


def test_a_line_without_end_takes_no_memory(tmp_path: Path) -> None:
    """Of a line of 300 MB the beginning is shown; the lines around it are there, before and after its end came."""
    path = tmp_path / "x.log"
    with path.open("wb") as file:
        file.write(b"first\n")
        file.truncate(300_000_000)
    tracemalloc.start()
    try:
        reader = LogReader(path)
        assert [line for _, line in reader.read()] == ["first"]
        assert reader.read() == [] and reader.read() == []
        with path.open("ab") as file:
            file.write(b"\nlast\n")
        [(_, line)] = reader.read()
        assert len(line) < 70_000 and line.endswith(" more bytes of this line are not shown)")
        assert reader.starts_a_line()
        assert [line for _, line in reader.read()] == ["last"]
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
