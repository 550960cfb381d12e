"""Patterns of sources and of --exclude."""

from __future__ import annotations

import re
import time
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesmith.copying.program.failures import UserFailure
from imagesmith.copying.program.patterns import PathPattern, PatternList, cleaned, has_wildcards, unescaped


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("a", ["a"], ["", "aa", "b"]),
        ("*.txt", ["a.txt", ".txt"], ["a.txt.gz", "b/a.txt"]),
        ("*", ["", "a", "abc"], ["a/b", "/"]),
        ("**", ["a"], ["a/b"]),
        ("a*b*c", ["abc", "aXbYc", "abbcc"], ["ab", "ac", "aXbYcZ"]),
        ("?", ["a", "ä", "\udcff"], ["", "ab", "/"]),
        ("index.?s", ["index.js", "index.ts"], ["index.s", "index.css"]),
        ("[abc]x", ["ax", "cx"], ["dx", "x"]),
        ("[a-c]", ["a", "b", "c"], ["d", "-"]),
        ("[^a-c]", ["d", "^"], ["a", "/"]),
        ("[!a]", ["!", "a"], ["b"]),
        ("arr[[]0].txt", ["arr[0].txt"], ["arr0.txt"]),
        (r"[\]a]", ["]", "a"], ["\\"]),
        (r"[\--0]", ["-", ".", "0"], ["1", "\\"]),
        (r"a\*b", ["a*b"], ["axb", r"a\*b"]),
        ("a+b(c)|.$^{}", ["a+b(c)|.$^{}"], ["aab"]),
        ("ä*", ["äö"], ["a"]),
    ],
)
def test_sources_match_as_in_go(pattern: str, yes: list[str], no: list[str]) -> None:
    """The rules of filepath.Match, for one name."""
    compiled = PathPattern(pattern)
    assert [name for name in yes if not compiled.matches(name)] == []
    assert [name for name in no if compiled.matches(name)] == []


@pytest.mark.parametrize(
    "pattern", ["[", "a[", "[a", "[]", "[]a]", "[-]", "[-a]", "[a-]", "[^", "[^]", "\\", "a\\", "[\\"]
)
def test_what_go_refuses_is_an_error(pattern: str) -> None:
    """A pattern that means nothing fails with its text and the way to write a bracket."""
    with pytest.raises(UserFailure, match=r"syntax error in pattern .*'\[\[\]'"):
        PathPattern(pattern)


@pytest.mark.parametrize(
    ("patterns", "yes", "no"),
    [
        (["foo"], ["foo", "foo/bar", "foo/bar/x"], ["a/foo", "food"]),
        (["*.txt"], ["a.txt"], ["d/a.txt"]),
        (["**/*.txt"], ["a.txt", "d/a.txt", "d/e/a.txt"], ["a.md"]),
        (["**/foo"], ["foo", "a/foo", "a/b/foo", "a/foo/x"], ["afoo", "a/bfoo"]),
        (["**.lock"], ["a.lock", "d/yarn.lock"], ["lock"]),
        (["foo/**"], ["foo/a", "foo/a/b"], ["foo", "a/foo/b"]),
        (["foo**"], ["foo", "foobar", "foo/x"], ["afoo"]),
        (["a/**/b"], ["a/b", "a/x/b", "a/x/y/b", "a/b/c"], ["ab", "a/xb"]),
        (["a**b"], ["ab", "ax/b", "ax/y/b"], ["axb"]),
        (["*/temp*"], ["a/temp", "a/temporary.txt"], ["temp", "a/b/temp"]),
        (["/foo/"], [], ["foo"]),
        (["./foo/../bar"], ["bar"], ["foo"]),
        (["*", "!keep"], ["a", "b/c"], ["keep", "keep/x"]),
        (["*", "!a/b"], ["a/c", "a", "x"], ["a/b", "a/b/c"]),
        (["a", "!a/b", "a/b/c"], ["a/x", "a/b/c"], ["a/b", "a/b/d"]),
        (["!a", "a"], ["a"], ["b"]),
        (["  foo  ", ""], ["foo"], ["bar"]),
        ([r"a\*"], ["a*"], ["ab"]),
        (["**"], ["a", "a/b"], []),
    ],
)
def test_excludes_match_as_in_docker(patterns: list[str], yes: list[str], no: list[str]) -> None:
    """Anchored at the copied folder; `**` crosses folders; a match of a folder holds below it; the last wins."""
    found = PatternList(patterns)
    assert [path for path in yes if not _matches(found, path)] == []
    assert [path for path in no if _matches(found, path)] == []


def test_a_lone_exclamation_mark_is_refused() -> None:
    """As in Docker."""
    with pytest.raises(UserFailure, match="illegal exclusion pattern"):
        PatternList(["!"])


def test_a_folder_that_cannot_hold_a_match_is_known() -> None:
    """Folders are not walked in vain: only those that a pattern may lead into."""
    below = PatternList(["usr/*/lib/**/x"])
    assert (
        below.may_match_below("usr") and below.may_match_below("usr/a") and below.may_match_below("usr/a/lib/b/c")
    )
    assert not below.may_match_below("etc") and not below.may_match_below("usr/a/bin")
    assert not PatternList(["usr/bin"]).may_match_below("usr/bin/x")


def test_no_pattern_takes_long() -> None:
    """A pattern of many stars on a name of the greatest length is decided at once: it is no backtracking search."""
    started = time.process_time()
    assert not PathPattern("*a" * 60 + "b").matches("a" * 255)
    assert not PatternList(["**/" + "*a" * 60 + "b"]).match("/".join(["a" * 20] * 12))[0]
    assert time.process_time() - started < 20


@pytest.mark.parametrize(
    ("path", "clean"),
    [("", "/"), (".", "/"), ("a", "/a"), ("//a//b/", "/a/b"), ("../../a", "/a"), ("/a/./b/..", "/a"), ("/..", "/")],
)
def test_paths_begin_at_the_root(path: str, clean: str) -> None:
    """`..` never leads above the root, and slashes are not doubled."""
    assert cleaned(path) == clean


def test_an_escaped_wildcard_is_none() -> None:
    """A name with a star is written with a backslash."""
    assert not has_wildcards(r"a\*b\?\[") and has_wildcards(r"a\\*") and not has_wildcards("a\\")
    assert unescaped(r"a\*b\\") == "a*b\\"


_NAMES = st.text(alphabet="ab.", min_size=0, max_size=5)


@given(pattern=st.text(alphabet="ab.*?", max_size=6), name=_NAMES)
def test_stars_are_those_of_a_regular_expression(pattern: str, name: str) -> None:
    """The automaton agrees with Python's own search on every pattern of letters, stars and question marks."""
    expression = "".join({"*": "[^/]*", "?": "[^/]"}.get(letter, re.escape(letter)) for letter in pattern)
    assert PathPattern(pattern).matches(name) == bool(re.fullmatch(expression, name))


@given(
    pattern=st.lists(st.sampled_from(["a", "b", "*", "**", "a*"]), min_size=1, max_size=4),
    path=st.lists(st.sampled_from(["a", "b", "ab"]), min_size=1, max_size=4),
)
def test_folders_that_hold_a_match_are_never_skipped(pattern: list[str], path: list[str]) -> None:
    """If a path matches, each folder above it says that it may hold a match."""
    found = PatternList(["/".join(pattern)])
    if found.match("/".join(path))[0]:
        for above in range(1, len(path)):
            folder = "/".join(path[:above])
            assert found.match(folder)[0] or found.may_match_below(folder)


@given(st.lists(st.sampled_from(["a", "a/b", "*/b", "**/b", "!a/b", "!b", "!**/a"]), max_size=4))
def test_knowing_the_folder_changes_nothing(patterns: list[str]) -> None:
    """Matching name by name from the top decides as matching a path against every pattern and its folders does."""
    found = PatternList(patterns)
    for words in (words for length in (1, 2, 3) for words in product(("a", "b"), repeat=length)):
        assert _matches(found, "/".join(words)) == _by_rule(patterns, words)


def _matches(patterns: PatternList, path: str) -> bool:
    words = path.split("/")
    above: tuple[bool, ...] = ()
    matched = False
    for length in range(1, len(words) + 1):
        matched, above = patterns.match("/".join(words[:length]), above)
    return matched


def _by_rule(patterns: list[str], words: tuple[str, ...]) -> bool:
    matched = False
    for text in patterns:
        pattern = PathPattern(text.removeprefix("!"), deep=True)
        if any(pattern.matches("/".join(words[:length])) for length in range(1, len(words) + 1)):
            matched = not text.startswith("!")
    return matched
