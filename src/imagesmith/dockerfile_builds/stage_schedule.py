"""Which stages are carried out when: each behind those that it needs, independent ones at once, up to a number.

The first failure ends the stages that run beside it, and is the one that is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import pairwise

from imagesmith.processes import Cancellation, Cancelled

_POLL_SECONDS = 0.1


class LinkedCancellation(Cancellation):
    """Cancelled by itself, or with another one."""

    def __init__(self, other: Cancellation | None) -> None:
        super().__init__()
        self._other = other

    @property
    def requested(self) -> bool:
        return super().requested or (self._other is not None and self._other.requested)

    def wait(self, seconds: float) -> bool:
        while seconds > 0 and not self.requested:
            super().wait(min(seconds, _POLL_SECONDS))
            seconds -= _POLL_SECONDS
        return self.requested


def in_order(target: int, needs: Mapping[int, frozenset[int]]) -> list[int]:
    """A stage and those that it needs, each behind its own: a stage may take from a later one."""
    found: list[int] = []
    waiting = [target]
    while waiting:
        index = waiting[-1]
        missing = sorted(needs[index] - set(found), reverse=True)
        if missing:
            waiting += missing
            continue
        waiting.pop()
        if index not in found:
            found.append(index)
    return found


def is_chain(order: Sequence[int], needs: Mapping[int, frozenset[int]]) -> bool:
    """Whether no two of the stages could be carried out at once."""
    return all(before in needs[index] for before, index in pairwise(order))


def carry_out_stages(
    order: Sequence[int], needs: Mapping[int, frozenset[int]], work: Callable[[int], None], *,
    at_once: int, stop: Cancellation,
) -> None:  # fmt: skip
    """Call `work` for each stage, in threads that live until the last has ended; `stop` ends all of them.

    Raises what the first that failed has raised.
    """
    if at_once == 1:
        for index in order:
            work(index)
        return
    left, done = list(order), set[int]()
    running: dict[Future[None], int] = {}
    failures: list[BaseException] = []
    with ThreadPoolExecutor(at_once, thread_name_prefix="stage") as pool:
        while running or (left and not failures):
            ready = [index for index in left if needs[index] <= done] if not failures else []
            for index in ready[: at_once - len(running)]:
                left.remove(index)
                running[pool.submit(work, index)] = index
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                done.add(running.pop(future))
                if (error := future.exception()) is not None:
                    failures.append(error)
                    stop.cancel()
    if failures:
        raise next((error for error in failures if not isinstance(error, Cancelled)), failures[0])
