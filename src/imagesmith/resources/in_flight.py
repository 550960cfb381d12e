"""Client tokens of calls under execution (spec/api.md 2.5).

A call claims its token before it reads an `s3://` source or waits for the database; a second call with the same
token is refused meanwhile. Claims live in this process and end with it, so none outlives a crash. Two servers on
one PostgreSQL do not see each other's claims: there the unit of work decides, the first call to commit takes effect
and the second gets its answer. The number of claims is bounded by the number of running requests.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable

from imagesmith.resources.errors import in_use

Key = tuple[str, str, str, str]
"""Account, region, operation, token."""


class InFlight:
    """Safe to use from several threads. A claim must be released."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._claimed: set[Key] = set()

    def claim(self, key: Key) -> None:
        """Hold a token. Raises ApiError when another call holds it."""
        with self._lock:
            if key in self._claimed:
                raise in_use(
                    f"The client token '{key[3]}' is in use by a call that is still executing. Retry later."
                )
            self._claimed.add(key)

    def release(self, keys: Iterable[Key]) -> None:
        with self._lock:
            self._claimed.difference_update(keys)
