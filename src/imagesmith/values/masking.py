"""Masks values whose names look like secrets, wherever they would leave this machine."""

from __future__ import annotations

import re
from typing import Final

MASK: Final = "***"
_SECRET: Final = re.compile(
    r"pass(word|phrase|wd)?|secret|token|credential|api_?key|private_?key|access_?key", re.IGNORECASE
)


def masked(name: str, value: str) -> str:
    """The value of a parameter, or a mask for one whose name looks like a secret's."""
    return MASK if _SECRET.search(name) else value
