"""The clock of instances, passed in so that a test can set it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Timer:
    """A monotonic clock, with a matching wait."""

    now: Callable[[], float] = time.monotonic
    """Seconds since an arbitrary moment."""
    sleep: Callable[[float], None] = time.sleep


SYSTEM_TIMER: Final = Timer()
"""The time of this computer."""
