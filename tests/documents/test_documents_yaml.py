"""Texts to nodes: raw scalars, places, bounds (spec/components.md 2.1)."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagesmith.documents.nodes import ListNode, MapNode, ScalarNode, to_data
from imagesmith.documents.yaml import YamlLimits, load_yaml
from imagesmith.values.diagnostics import Position


def code(text: str | bytes, limits: YamlLimits | None = None) -> str:
    return ",".join(problem.code for problem in load_yaml(text, limits=limits).problems)


def data(text: str | bytes) -> object:
    loaded = load_yaml(text)
    assert loaded.root is not None and not loaded.problems, loaded.problems
    return to_data(loaded.root)


def test_scalars_keep_their_text() -> None:
    """No scalar changes its spelling, whatever type YAML would give it."""
    text = "[0777, 1.0, 012345678901, yes, ~, 1e3, 2020-01-01, 0x1F, 1_000, 'q', \"d\\n\", .inf, null]"
    assert data(text) == [
        *(
            "0777",
            "1.0",
            "012345678901",
            "yes",
            "~",
            "1e3",
            "2020-01-01",
            "0x1F",
            "1_000",
            "q",
            "d\n",
            ".inf",
            "null",
        )
    ]


def test_empty_values_are_absent() -> None:
    """`key:` and `key: ~` count as absent, `key: ''` does not."""
    assert data("a:\nb: ~\nc: ''\nd: 'null'\ne: null") == {"c": "", "d": "null"}


def test_slots() -> None:
    """Every node knows its line and column, counted in characters from 1."""
    root = load_yaml(
        "é: ü\nlist:\n  - 'x'\n  - {k: |\n     a\n     b}\n".replace(
            "{k: |\n     a\n     b}", "k: |\n      a\n      b"
        )
    ).root
    assert isinstance(root, MapNode)
    listed = root.get("list")
    assert isinstance(listed, ListNode)
    first, second = listed.items
    assert (root.position, listed.position, first.position) == (Position(1, 1), Position(3, 3), Position(3, 5))
    assert isinstance(first, ScalarNode) and not first.plain
    assert first.position_at(0) == Position(3, 6)
    assert isinstance(second, MapNode)
    block = second.get("k")
    assert isinstance(block, ScalarNode) and block.block
    assert (block.text, block.position_at(2)) == ("a\nb\n", Position(6, 1))


def test_json_and_marks() -> None:
    """JSON, a byte-order mark and a leading document marker are read."""
    assert data('{"a":"\\u00e9\\/","b":[1,true]}') == {"a": "é/", "b": ["1", "true"]}
    assert data(b"\xef\xbb\xbf---\na: b\n...\n") == {"a": "b"}
    assert data("%YAML 1.2\n---\na: b") == {"a": "b"}


def test_aliases_and_merges() -> None:
    """Aliases share nodes; merged keys stand behind own ones, earlier sources before later ones."""
    text = "x: &x {a: 1, b: 2}\ny: &y {b: 3, c: 4}\nz: {<<: [*x, *y], a: 0}\nw: *x"
    assert data(text) == {
        "x": {"a": "1", "b": "2"},
        "y": {"b": "3", "c": "4"},
        "z": {"a": "0", "b": "2", "c": "4"},
        "w": {"a": "1", "b": "2"},
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "yaml-empty"),
        ("# only", "yaml-empty"),
        ("a: b: c", "yaml-syntax"),
        ("\tx: y", "yaml-syntax"),
        ("a: *x", "yaml-alias"),
        ("a: &a {b: *a}", "yaml-alias"),
        ("a: 1\n---\nb: 2", "yaml-many-documents"),
        ("a: 1\na: 2", "yaml-duplicate-key"),
        ("{a: 1, b: {c: 1, c: 2}, a: 2}", "yaml-duplicate-key,yaml-duplicate-key"),
        ("a: {{ X }}", "yaml-key"),
        ("? [a]\n: b", "yaml-key"),
        ("<<: text", "yaml-merge"),
        ("a: !Sub x", "yaml-tag"),
        ("a: !!str 1", ""),
        (b"\xff", "text-encoding"),
        ("\ud800", "text-encoding"),
        ("a: \x07", "yaml-syntax"),
    ],
)
def test_defects(text: str | bytes, expected: str) -> None:
    """Each defect of a text has its code."""
    assert code(text) == expected


def test_bounds() -> None:
    """Length, depth and expanded size are bounded, and checked before they cost time."""
    started = time.thread_time()
    assert code("a" * 100, YamlLimits(text_bytes=99)) == "document-too-long"
    assert code("é" * 50, YamlLimits(text_bytes=99)) == "document-too-long"
    assert code("[" * 60_000) == "yaml-depth"
    assert code("{a: " * 15_000) == "yaml-depth"
    assert code("- " * 30_000) == "yaml-depth"
    assert code("? " * 30_000) == "yaml-depth"
    assert code("[" + "a," * 30_000 + "]", YamlLimits(nodes=1000)) == "yaml-size"
    bomb = "- &a [x, x, x, x, x, x, x, x, x, x]\n"
    for level in range(8):
        old, new = chr(97 + level), chr(98 + level)
        bomb += f"- &{new} [{', '.join([f'*{old}'] * 10)}]\n"
    assert code(bomb) == "yaml-size"
    assert time.thread_time() - started < 1


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab:-[]{}#&*!|>'\"%@`,? \n\t<é0", max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text whatsoever raises; without a root there is a reason."""
    loaded = load_yaml(text)
    assert loaded.root is not None or loaded.problems


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """The same for bytes."""
    loaded = load_yaml(data)
    assert loaded.root is not None or loaded.problems


JSON = st.recursive(
    st.text(
        alphabet=st.characters(
            codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\u2028\u2029\x85\ufeff"
        ),
        max_size=8,
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(alphabet="abc", min_size=1, max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.dictionaries(st.just("key"), JSON, min_size=1))
def test_values_survive(value: object) -> None:
    """A structure of quoted texts written as JSON is read back as it was."""
    import json

    loaded = load_yaml(json.dumps(value))
    assert loaded.root is not None and to_data(loaded.root) == value
