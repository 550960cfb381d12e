"""Attempts of work during which the process may die: counted, bounded, logged, and explained.

attempt counted --> the process died too often: refused
                --> the first, or the work is repeatable --> work --> result
                --> an instance is half changed: lost         |--> Cancelled: the attempt is uncounted
                                                              |--> InstanceGone: lost
                                                              '--> any other failure: explained
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from imagesmith.builds.instances import InstanceGone
from imagesmith.processes import Cancelled

ATTEMPTS: Final = 3
"""How often a run, or a part of it, is tried before it fails: once and twice more after the server died."""

Result = TypeVar("Result")


@dataclass(frozen=True)
class Attempt:
    """The number of an attempt, as the records count them."""

    number: int
    stopped: int = 0
    """How many counted earlier attempts were ended by an orderly stop of the server."""

    @property
    def died(self) -> int:
        """How often the server died in earlier attempts."""
        return self.number - 1 - self.stopped


def attempt(
    work: Callable[[], Result],
    made: Attempt,
    where: str,
    *,
    on_line: Callable[[str], object],
    take_back: Callable[[], object],
    refused: Callable[[str], Result],
    failed: Callable[[Exception], Result],
    lost: Callable[[bool], Result] | None = None,
    repeatable: bool = True,
) -> Result:
    """The result of `work`, or of the callback for its end. Raises Cancelled.

    `where` follows "the server stopped" in sentences; `take_back` uncounts an attempt that an orderly stop or a
    cancel ended; `lost(orderly)` is called if the instance is gone, and if work on an instance, which is not
    `repeatable`, was interrupted.
    """
    if made.died >= ATTEMPTS:
        return refused(f"the server died {made.died} times {where}; it is not retried")
    if made.number > 1:
        if lost is not None and not repeatable:
            return lost(made.died == 0)
        on_line(f"the server stopped {where}; attempt {made.number} begins")
    try:
        return work()
    except Cancelled:
        take_back()
        raise
    except Exception as error:
        if lost is not None and isinstance(error, InstanceGone):
            return lost(False)
        return failed(error)
