"""Hypothesis strategies for requests and answers, made from the model itself."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from imagesmith.wire.model import Member, Shape
from imagesmith.wire.validate import python_pattern

TEXT = st.characters(codec="utf-8", exclude_characters="\0")
MOMENTS = st.integers(0, 4_000_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, tz=UTC))
"""Whole seconds: botocore sends nothing finer."""
ANSWER_TEXTS = ("a", "", "zwei Wörter", "\U0001f9f0 \u2028", '"\\ \n\t\x7f', "x" * 300, "\ud83d")


class Values:
    """Strategies for valid values of shapes, each built once.

    `whole` puts every member into every structure; otherwise only required ones are there. `answers` are not
    bound to patterns and draw little entropy, because some are very large.
    """

    def __init__(self, *, whole: bool, answers: bool = False) -> None:
        self._whole = whole
        self._answers = answers
        self._built: dict[Shape, st.SearchStrategy[Any]] = {}

    def of(self, shape: Shape) -> st.SearchStrategy[Any]:
        if shape not in self._built:
            self._built[shape] = self._build(shape)
        return self._built[shape]

    def _member(self, member: Member) -> st.SearchStrategy[Any]:
        """Of an answer, texts that are left out when they are empty are not: test_wire_answers has those."""
        shape = member.shape
        may_be_absent = bool(shape.minimum) or member.name.lower().endswith("description")
        if self._answers and shape.type == "string" and may_be_absent:
            return st.sampled_from(tuple(filter(None, ANSWER_TEXTS)))
        return self.of(shape)

    def _build(self, shape: Shape) -> st.SearchStrategy[Any]:
        least, most = shape.minimum, shape.maximum
        match shape.type:
            case "structure":
                wanted = [item for item in shape.members.values() if self._whole or item.required]
                return st.fixed_dictionaries({item.name: self._member(item) for item in wanted})
            case "list":
                assert shape.item is not None
                size = max(least or 0, 1 if self._whole else 0)
                longest = 1 if self._answers else min(most or 2, 2)
                return st.lists(self.of(shape.item), min_size=size, max_size=max(size, longest))
            case "map":
                assert shape.key is not None and shape.item is not None
                size = max(least or 0, 1 if self._whole else 0)
                return st.dictionaries(
                    self.of(shape.key), self.of(shape.item), min_size=size, max_size=min(most or 3, 3)
                )
            case "boolean":
                return st.booleans()
            case "timestamp":
                return MOMENTS
            case "double":
                return st.floats(allow_nan=False, allow_infinity=False, width=32)
            case "string":
                return st.sampled_from(ANSWER_TEXTS) if self._answers else _texts(shape)
            case _:
                return st.integers(-(2**31) if least is None else least, 2**31 - 1 if most is None else most)


def _texts(shape: Shape) -> st.SearchStrategy[str]:
    if shape.choices:
        return st.sampled_from(shape.choices)
    least, most = shape.minimum or 0, shape.maximum
    if shape.pattern is None:
        return st.text(TEXT, min_size=least, max_size=least + 20 if most is None else min(most, least + 20))
    pattern = re.compile(python_pattern(shape.pattern), re.ASCII)
    return st.from_regex(pattern, fullmatch=True, alphabet=TEXT).filter(
        lambda text: least <= len(text) and (most is None or len(text) <= most)
    )
