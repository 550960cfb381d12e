"""A scheduler that is killed in the middle of a tick. argv: database URL, data directory, `before` or `after`.

before   when the unit of work that starts the run is about to commit
after    when it has committed and the engine is about to hear of the build
"""

from __future__ import annotations

import os
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from imagesmith.store.database import Database
from testing.clock_support import NOON, Factory, SetClock


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(url: str, data_dir: Path, when: str) -> None:
    database = Database(url)
    factory = Factory(database, data_dir, clock=SetClock(NOON + timedelta(hours=1)))
    if when == "after":
        factory.builds.on_start = die
    else:
        has_image: list[bool] = []

        def watch(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if statement.startswith("INSERT INTO resources"):
                has_image.append(True)

        def commit(_connection: Any) -> None:
            if has_image:
                die()

        sa.event.listen(database.engine, "before_cursor_execute", watch)
        sa.event.listen(database.engine, "commit", commit)
    factory.scheduler.tick()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
