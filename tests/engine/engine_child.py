"""A process with an engine of three stages; stays in the named one for ever. argv: journal, log, stage."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imagesmith.engine.durable import DurableEngine, Stages
from imagesmith.processes import Cancellation


def main(journal: str, log: Path, stay_in: str) -> None:
    done = False

    def note(text: str) -> None:
        with log.open("a") as file:
            file.write(text + "\n")

    def stage(name: str) -> Any:
        def run(_image: str, before: Mapping[str, Any], _cancellation: Cancellation) -> dict[str, Any]:
            note(f"begin {name}")
            if name == stay_in:
                time.sleep(600)
            note(f"end {name}")
            return {**before, "status": "ok"}

        return name, run

    def finish(_image: str, result: Mapping[str, Any], _stopping: Cancellation) -> dict[str, Any]:
        nonlocal done
        note(f"finish {result['status']}")
        done = True
        return {}

    engine = DurableEngine(journal, Stages([stage("one"), stage("two"), stage("three")], finish), concurrency=1)
    engine.launch()
    engine.start("image-a")
    while not done:
        time.sleep(0.05)
    engine.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
