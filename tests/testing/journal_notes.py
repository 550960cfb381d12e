"""What programs of the journal did, and waiting for it."""

from __future__ import annotations

import time
from collections.abc import Callable

from imagesmith.builds.journal import Json, Work
from imagesmith.processes import Cancellation


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise AssertionError("it did not happen in time")
        time.sleep(0.02)


class Notes:
    """What the programs of a test did."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, str]] = []
        self.ended: dict[str, str] = {}

    def step(self, key: str, name: str, work: Callable[[Cancellation], object] = lambda _: None) -> Work:
        def run(cancellation: Cancellation) -> Json:
            self.steps.append((key, name))
            work(cancellation)
            return {"name": name}

        return run

    def end(self, key: str, how: str) -> Work:
        def run(_: Cancellation) -> Json:
            self.ended[key] = how
            return {}

        return run
