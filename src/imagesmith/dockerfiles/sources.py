"""What a source of COPY and ADD is, by its text. Pure."""

from __future__ import annotations

import re
from typing import Final

_REMOTE: Final = re.compile(r"https?://", re.IGNORECASE)
_GIT: Final = re.compile(r"(?:git://|git@|ssh://|[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:)")
_GIT_ADDRESS: Final = re.compile(r"https?://[^?#]+\.git(?:[?#].*)?\Z", re.IGNORECASE)


def is_git(text: str) -> bool:
    """Whether ADD clones it."""
    return _GIT.match(text) is not None or _GIT_ADDRESS.match(text) is not None


def is_remote(text: str) -> bool:
    """Whether ADD downloads it as a file."""
    return _REMOTE.match(text) is not None and not is_git(text)
