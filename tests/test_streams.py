"""The chunks of a program's output as whole lines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from imagesmith.streams import LineJoiner

_LONGEST = 8


@given(st.lists(st.binary(max_size=12).map(lambda data: data.replace(b"\0", b"\n")), max_size=20))
def test_lines_do_not_depend_on_how_output_is_cut_into_chunks(chunks: list[bytes]) -> None:
    """Only a line that is longer than allowed is cut, and no byte is lost, doubled or moved."""
    joiner, lines = LineJoiner(_LONGEST), list[bytes]()
    for chunk in chunks:
        lines += joiner.add("stdout", chunk)
    lines += [rest for _, rest in joiner.flush()]
    written = b"".join(chunks)
    assert b"".join(lines) == written.replace(b"\n", b"")
    if max(map(len, written.split(b"\n"))) <= _LONGEST:
        assert lines == (written.removesuffix(b"\n").split(b"\n") if written else [])
    assert joiner.flush() == []


def test_streams_do_not_mix() -> None:
    """Half a line of one stream waits for its own other half."""
    joiner = LineJoiner(_LONGEST)
    assert joiner.add("stdout", b"a") == joiner.add("stderr", b"b") == []
    assert joiner.add("stderr", b"c\n") == [b"bc"]
    assert joiner.flush() == [("stdout", b"a")]
