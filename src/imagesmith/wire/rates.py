"""Request rates: one token bucket per account and operation (spec/api.md 8, no. 22). Off unless configured.

A bucket holds up to `burst` tokens and gains `rate` a second; a request takes one, or learns when there will be
one. At most `_BUCKETS` are kept; the least recently used one is dropped first, and would be nearly full.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final

from imagesmith.settings import RateLimit

_BUCKETS: Final = 4096
_EVERY: Final = "*"


class RateLimits:
    """Counts requests. Safe to call from several threads."""

    def __init__(
        self, limits: Mapping[str, RateLimit], *, clock: Callable[[], datetime], most: int = _BUCKETS
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._most = most
        self._lock = threading.Lock()
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()
        """(account, operation) -> tokens left, and the time of that count."""

    def take(self, account: str, operation: str) -> int:
        """0 when the request is allowed, else whole seconds until the next one is."""
        limit = self._limits.get(operation) or self._limits.get(_EVERY)
        if limit is None:
            return 0
        now = self._clock().timestamp()
        key = (account, operation)
        with self._lock:
            left, since = self._buckets.pop(key, (float(limit.burst), now))
            # a clock that was set back must not take tokens away
            left = min(limit.burst, left + max(0.0, now - since) * limit.rate)
            allowed = left >= 1
            self._buckets[key] = (left - 1 if allowed else left, now)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        return 0 if allowed else max(1, math.ceil((1 - left) / limit.rate))

    def __len__(self) -> int:
        return len(self._buckets)
