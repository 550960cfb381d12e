"""Patterns: RE2's language, in linear time (spec/components.md 6.2)."""

from __future__ import annotations

import contextlib
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagesmith.documents.patterns import PatternError, compile_pattern


def found(pattern: str, text: str, *, ignore_case: bool = False) -> bool:
    return compile_pattern(pattern, ignore_case=ignore_case).found_in(text)


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("", "", True),
        ("b", "abc", True),
        ("^b", "abc", False),
        ("c$", "abc", True),
        ("c$", "abc\n", False),
        ("(?m)c$", "abc\n", True),
        ("(?m)^b", "a\nb", True),
        (r"\Ab", "a\nb", False),
        (r"c\z", "abc", True),
        ("a.c", "a\nc", False),
        ("(?s)a.c", "a\nc", True),
        ("a{2,3}b", "ab", False),
        ("a{2,3}b", "aaaab", True),
        ("^a{,2}$", "a{,2}", True),
        ("x{0}y", "y", True),
        ("(a|bc)+?d", "abcbcd", True),
        ("[^a-c]", "abc", False),
        ("[]a-]", "-", True),
        ("[^]a]", "]", False),
        (r"[\d\-x]", "-", True),
        ("[[:alpha:]][[:^digit:]]", "a1", False),
        (r"\d\s\w", "1 _", True),
        (r"\D\S\W", "a1-", True),
        (r"\s", "\v", False),
        (r"\bfoo\b", "a foo.", True),
        (r"\bfoo\b", "afoo", False),
        (r"o\Bo", "foo", True),
        (r"\pL\P{Lu}", "Ab", True),
        (r"\p{^Lu}", "A", False),
        (r"\x41\x{42}\103", "ABC", True),
        (r"\Qa.b\E.", "a.bc", True),
        (r"\Qa.b", "axb", False),
        (r"\.\*\/", ".*/", True),
        ("(?i)straSSe", "STRASSE", True),
        ("a(?i)b(?-i)c", "aBc", True),
        ("a(?i:b)c", "aBC", False),
        ("(?P<name>a)(?<other>b)", "ab", True),
        ("é+", "éé", True),
        ("(|a)*b", "ab", True),
        ("(a*)*$", "aaa", True),
        (r"^\Qv1.2\E+$", "v1.22", True),
        (r"\Qa.b\E{0,2}", "a.", True),
        (r"^\Qa.b\E{2}$", "a.bb", True),
        (r"\Qa\Cb\E", r"a\Cb", True),
        (r"\\C", r"\C", True),
        (r"\p{Greek}", "β", True),
        ("(" * 101 + "a" + ")" * 101, "a", True),
        ("a", "\ud800a", True),
        ("(?P<1>a)", "a", True),
    ],
)
def test_language(pattern: str, text: str, expected: bool) -> None:
    """Each construct of RE2 finds what it should."""
    assert found(pattern, text) is expected


def test_letter_case() -> None:
    """Case can be ignored from outside; a negated class is negated after folding."""
    assert found("^[a-z]+$", "ABC", ignore_case=True)
    assert not found("[^a]", "A", ignore_case=True)
    assert found("É", "é", ignore_case=True)


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "(",
            ")",
            "(?",
            "[",
            "[a",
            "[b-a]",
            "*",
            "a**",
            "a{2}{3}",
            "a{3,2}",
            "a{1001}",
            "((a{99}){99}){99}",
            "\\",
        ),
        *("(?=a)", "(?!a)", "(?<=a)", "(?<!a)", "(?#c)", "(?>a)", r"(a)\1", r"\8", r"\Z", r"\C", r"\xg1"),
        *(
            r"\x{110000}",
            r"\pX",
            "[[:nope:]]",
            "(?x)a",
            "a|{2}",
            "(?i)*",
            "a" * 5000,
        ),
    ],
)
def test_refused(pattern: str) -> None:
    """What RE2 does not know, or what grows too large, is refused with a reason."""
    with pytest.raises(PatternError, match=r"\w"):
        compile_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("(a*)*b", "a" * 100_000),
        ("(a|aa)+$", "a" * 100_000 + "b"),
        ("(.*)(.*)(.*)(.*)(.*)x", "y" * 500_000),
        ("([a-z]{0,50}[0-9]){20}z", "a1b2" * 100_000),
        ("a{1000}" * 4, "a" * 100_000),
        ("[a-z]{1000}", "ab" * 50_000),
        (r"(\w+\s)*\W{5}", "word " * 100_000),
    ],
)
def test_time_is_bounded(pattern: str, text: str) -> None:
    """Patterns that ruin backtracking engines end within a second, with an answer or a refusal."""
    started = time.thread_time()
    with contextlib.suppress(PatternError):
        found(pattern, text, ignore_case=True)
    assert time.thread_time() - started < 1


CONSUMING = st.sampled_from(["a", "b", "ab", ".", "[ab]", "[^a]", r"\w", r"\d", "(?:a|b)", "\n"])
ASSERTING = st.sampled_from(["^", "$", r"\b"])


@st.composite
def shared_patterns(draw: st.DrawFn) -> str:
    """Patterns that RE2 and Python's engine read alike."""
    atom = st.tuples(CONSUMING, st.sampled_from(["", "", "{2}", "*?"])).map("".join) | ASSERTING
    groups = st.tuples(st.just("("), atom, st.just(")"), st.sampled_from(["", "*", "+", "?"])).map("".join)
    parts = draw(st.lists(groups, min_size=1, max_size=4))
    return draw(st.sampled_from(["", "(?m)", "(?s)"])) + draw(st.sampled_from(["", "|"])).join(parts)


@settings(max_examples=400, deadline=None)
@given(shared_patterns(), st.text(alphabet="ab1_ \n", max_size=12))
def test_agrees_with_the_standard_library(pattern: str, text: str) -> None:
    """Where both languages mean the same, both engines find the same."""
    multiline = pattern.startswith("(?m)")
    translated = pattern if multiline else pattern.replace("$", r"\Z")
    if multiline:
        translated = pattern.replace("$", r"(?=\n|\Z)")
    assert found(pattern, text) is bool(re.search(translated, text, re.ASCII))


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="ab1()[]{}|*+?\\^$.-,:<>PQE=!im", max_size=40), st.text(max_size=60))
def test_any_text_is_a_pattern_or_refused(pattern: str, text: str) -> None:
    """No pattern whatsoever does anything but match, not match, or be refused."""
    try:
        found(pattern, text, ignore_case=True)
    except PatternError as error:
        assert str(error)
