"""Answers of a process that a layer has taken over: refused, whatever they are."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imagesmith.layers.entries import LayerError
from imagesmith.layers.layer_calls import LayerCalls
from imagesmith.layers.layer_listing import read_entries
from imagesmith.layers.unpacker import UnpackLimits
from imagesmith.layers.writer import WriterSettings
from imagesmith.namespaces.sealed_calls import SealedProgram
from testing.hostile_layers import BLOB

pytestmark = pytest.mark.tool
MODULE = "testing.hostile_layers"
TESTS = str(Path(__file__).parents[1])
OTHER = f"sha256:{hashlib.sha256(b'another').hexdigest()}"
DIGEST = f"sha256:{hashlib.sha256(BLOB).hexdigest()}"
PACKED = {"diff_id": OTHER, "size": 1, "digest": DIGEST, "blob_size": len(BLOB), "entries": 1, "dropped": "'/a'"}
UNPACKED = {"diff_id": OTHER, "size": 1, "digest": DIGEST, "entries": 1}
ODD: tuple[dict[str, Any], ...] = (
    {"digest": "sha256:../../images"},
    {"digest": "/etc/passwd"},
    {"digest": DIGEST.upper()},
    {"digest": f"{DIGEST}\n"},
    {"digest": DIGEST.removeprefix("sha256:")},
    {"digest": ""},
    {"digest": None},
    {"diff_id": "sha256:../../layers/x"},
    {"diff_id": f"{OTHER} {OTHER}"},
    {"diff_id": 7},
    {"size": -1},
    {"size": True},
    {"size": 1.5},
    {"size": 1 << 70},
    {"entries": -2},
    {"more": 1},
)
ODD_PACKED: tuple[dict[str, Any], ...] = (
    {"digest": OTHER},
    {"blob_size": len(BLOB) + 1},
    {"blob_size": -1},
    {"dropped": "'/a'\n" * 2000},
    {"dropped": "a" * 301},
    {"dropped": "\x1b[2J"},
)


@pytest.fixture(scope="module")
def hostile() -> Iterator[LayerCalls]:
    calls = LayerCalls(SealedProgram(MODULE, folders=(TESTS, *sys.path)), module=MODULE)
    with calls.program.used():
        yield calls


def ask(calls: LayerCalls, what: str, folder: Path, answer: Any) -> object:
    """Have the answer given to one kind of call."""
    folder.mkdir()
    source = folder / "source"
    source.write_text(json.dumps(answer))
    source.chmod(0o666)
    if what == "unpack":
        (folder / "target").mkdir()
        return calls.unpack(source, folder / "target", lowers=[], limits=UnpackLimits())
    with (folder / "blob").open("xb") as blob:
        if what == "compress":
            with source.open("rb") as archive:
                return calls.compress(archive, blob)
        (folder / "upper").mkdir()
        source.rename(folder / "upper/answer")
        return calls.pack(folder / "upper", blob, lowers=[], settings=WriterSettings())


@pytest.mark.parametrize("what", ["unpack", "pack", "compress"])
def test_odd_answers_are_refused(hostile: LayerCalls, tmp_path: Path, what: str) -> None:
    """Digests that are paths or those of other blobs, numbers that are none, texts without end; a proper answer is
    taken."""
    proper = UNPACKED if what == "unpack" else PACKED
    assert vars(ask(hostile, what, tmp_path / "proper", proper)) == proper
    changes = ODD if what == "unpack" else (*ODD, *ODD_PACKED)
    odd: list[Any] = [*({**proper, **change} for change in changes), {}, [], None, "words"]
    taken = []
    for number, answer in enumerate(odd):
        try:
            taken.append((answer, ask(hostile, what, tmp_path / str(number), answer)))
        except LayerError as error:
            assert "answered something else" in str(error), answer
    assert taken == []


def test_a_full_disk_is_no_fault_of_the_layer(hostile: LayerCalls, tmp_path: Path) -> None:
    """Failures of this machine keep their number; others are the layer's."""
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE):
        with pytest.raises(OSError, match=os.strerror(code)) as failure:
            ask(hostile, "unpack", tmp_path / str(code), {"errno": code})
        assert failure.value.errno == code
    with pytest.raises(LayerError, match=os.strerror(errno.ENOENT)):
        ask(hostile, "unpack", tmp_path / "other", {"errno": errno.ENOENT})


@pytest.mark.parametrize("what", ["unpack", "compress"])
def test_what_is_read_cannot_be_opened_for_writing(hostile: LayerCalls, tmp_path: Path, what: str) -> None:
    """Blobs are shared by images; the mode of this one would allow it."""
    with pytest.raises(LayerError, match=os.strerror(errno.EROFS)):
        ask(hostile, what, tmp_path / "folder", {"write": True})


@pytest.mark.parametrize(
    "line",
    [
        b"{", b"[" * 100_000, b"null", b"[]", b'["61"]', b'["61", []]', b'["6", {}]', b'["zz", {}]', b"[7, {}]",
        b'["61", {"mode": 1}]', b'["61", {}, 1]', b'"61"', b"\xff",
    ],
)  # fmt: skip
def test_a_damaged_list_of_files_is_refused(tmp_path: Path, line: bytes) -> None:
    """In words, at the line that is damaged."""
    (tmp_path / "lines").write_bytes(b'["61", {"mode": "0644"}]\n' + line)
    with (tmp_path / "lines").open("rb") as lines, pytest.raises(LayerError, match="is damaged"):
        read_entries(lines)


def test_a_list_of_files_without_end_is_not_read(tmp_path: Path) -> None:
    """It is refused by its length."""
    with (tmp_path / "lines").open("w+b") as lines:
        lines.truncate(1 << 40)
        with pytest.raises(LayerError, match="more than"):
            read_entries(lines)
