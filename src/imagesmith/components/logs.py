"""The log folder of a run, in the form of the published tool (spec/components.md 12.1).

TOE_2020-07-31_11-57-10_UTC-0_<execution id>/
  document.yaml          the document; document-1.yaml, document-2.yaml, ... when there are several
  application.log        the course of the run, with times
  console.log            the same lines and everything that steps print
  detailedoutput.json    the result tree
  chaining.json          chaining references and their values
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from imagesmith.components.reporting import ReportedStep
from imagesmith.components.results import ExecutionResult, StepResult, printable
from imagesmith.components.services import Clock
from imagesmith.processes import Stream


class LogFolder:
    """Writes the files of one run. It is a Reporter; call finish() with the result, and close() in any case."""

    def __init__(self, parent: Path, execution_id: str, *, clock: Clock, resumed: bool = False) -> None:
        """Make the folder, readable by its owner only; a resumed run continues in its folder. Raises OSError."""
        ending = f"_UTC-0_{execution_id}"
        started = clock.now().strftime("%Y-%m-%d_%H-%M-%S")
        self.path = parent / f"TOE_{started}{ending}"
        earlier = [folder for folder in parent.glob("TOE_*") if folder.name.endswith(ending)] if resumed else []
        if earlier:
            self.path = earlier[0]
        else:
            self.path.mkdir(parents=True, mode=0o700)
        self._clock = clock
        self._console = self._open("console.log")
        self._application = self._open("application.log")

    def documents(self, texts: Sequence[str]) -> None:
        """Store the documents of the run."""
        for number, text in enumerate(texts, 1):
            name = "document.yaml" if len(texts) == 1 else f"document-{number}.yaml"
            (self.path / name).write_text(text, encoding="utf-8")

    def line(self, text: str) -> None:
        stamped = f"{self._now()} Info {text}\n"
        self._console.write(stamped)
        self._application.write(stamped)
        self._console.flush()

    def output(self, stream: Stream, text: str) -> None:
        self._console.write(f"{self._now()} Info CmdExecution: {stream.capitalize()}: {text}\n")

    def step_started(self, step: ReportedStep) -> None:
        self._application.write(f"{self._now()} Debug {step.label} {step.phase}.{step.name} {step.action} starts\n")

    def step_finished(self, step: ReportedStep, result: StepResult) -> None:
        text = f"{step.label} {step.phase}.{step.name} {result.status} after {result.seconds:.3f} s"
        self._application.write(f"{self._now()} Debug {text}, {result.attempts} attempts\n")
        self._console.flush()

    def finish(self, result: ExecutionResult) -> None:
        self._write("detailedoutput.json", result.detailed())
        self._write("chaining.json", {key: printable(value) for key, value in result.chaining.items()})
        self.close()

    def close(self) -> None:
        self._console.close()
        self._application.close()

    def _now(self) -> str:
        return self._clock.now().isoformat(" ", "milliseconds")[
            :23
        ]  # without the zone; strftime costs five times more

    def _open(self, name: str) -> IO[str]:
        descriptor = os.open(
            self.path / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        return os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace")

    def _write(self, name: str, value: Any) -> None:
        text = json.dumps(value, indent=2, ensure_ascii=False)
        (self.path / name).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
