"""A process with a program of three steps; stays in the named one for ever. argv: journal, log, step."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from imagesmith.builds.journal import Journal, Json
from imagesmith.engine.process import EngineProcess
from imagesmith.processes import Cancellation


def main(journal_url: str, log: Path, stay_in: str) -> None:
    done = False

    def note(text: str) -> None:
        with log.open("a") as file:
            file.write(text + "\n")

    def program(_key: str, journal: Journal) -> None:
        nonlocal done
        for name in ("one", "two", "three"):

            def work(_: Cancellation, name: str = name) -> Json:
                note(f"begin {name}")
                if name == stay_in:
                    time.sleep(600)
                note(f"end {name}")
                return {}

            journal.step(name, work)
        note("finish")
        done = True

    engine = EngineProcess(journal_url, program, concurrency=1)
    engine.launch()
    engine.queue.start("image-a")
    while not done:
        time.sleep(0.05)
    engine.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
