"""One attempt of a step, while it runs: its iterations' inputs and outputs, and how it failed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from imagesmith.components.actions.base import ActionFailed
from imagesmith.components.loops import Iteration
from imagesmith.components.outputs import JoinedOutputs
from imagesmith.components.results import StepStatus
from imagesmith.documents.nodes import Data
from imagesmith.instances.protocol import CannotReboot

_KEPT_STDERR: Final = 64 * 1024
_BASH_LINE: Final = re.compile(r"^/dev/fd/9: line ([0-9]{1,6}):", re.MULTILINE)


@dataclass
class StepAttempt:
    """The result of one attempt."""

    status: StepStatus = "success"
    message: str = ""
    error: str = ""
    stderr: str = ""
    started: bool = False
    inputs: list[Data] = field(default_factory=list)
    outputs: JoinedOutputs = field(default_factory=JoinedOutputs)
    detailed: list[Mapping[str, Any]] = field(default_factory=list)

    def fail(self, failure: Exception, iteration: Iteration | None) -> None:
        """End it with a failure, in an iteration or in a step without a loop."""
        self._end(failure, iteration, status="failed", error=str(failure))

    def time_out(self, failure: Exception, iteration: Iteration | None, *, seconds: int) -> None:
        """End it at its time limit."""
        error = f"timed out after {seconds} seconds"
        self._end(failure, iteration, status="timedOut", error=error)

    def script_line(self, lines: Sequence[int]) -> int:
        """The line of the document in bash's last error; `lines`: those of the script."""
        named = [int(number) for number in _BASH_LINE.findall(self.stderr[-_KEPT_STDERR:])]
        return lines[named[-1] - 1] if named and 0 < named[-1] <= len(lines) else 0

    def _end(self, failure: Exception, iteration: Iteration | None, *, status: StepStatus, error: str) -> None:
        self.status = status
        self.error = f"the step requests a reboot: {failure}" if isinstance(failure, CannotReboot) else error
        self.message = self.error
        if iteration is not None and status == "timedOut":
            self.message = f"the loop timed out in the iteration with index {iteration.index}"
        elif iteration is not None:
            self.message = f"the iteration with index {iteration.index} failed"
        if isinstance(failure, ActionFailed):
            self.stderr = failure.stderr[-_KEPT_STDERR:]
            self.detailed += failure.detailed
            if iteration is None:
                self.outputs.add(failure.outputs)
