"""The shared environment of all steps of a run, and the restarts of its instance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from imagesmith.components.journal import Progress
from imagesmith.components.reporting import Reporter
from imagesmith.components.services import Clock, Services
from imagesmith.instances.protocol import Instance, InstanceError
from imagesmith.processes import Cancellation


class TooManyReboots(InstanceError):
    """The instance was restarted more often than a run may (spec/components.md 9, rule 5)."""


@dataclass
class Restarts:
    """The number of restarts of the instance in this run, nested documents included."""

    limit: int
    done: int = 0

    def count(self) -> None:
        """Note one more. Raises TooManyReboots."""
        if self.done >= self.limit:
            raise TooManyReboots(f"the instance was restarted {self.done} times, which is the limit of a run")
        self.done += 1


class TooManyDocuments(InstanceError):
    """The steps of a run ran too many documents: a loop in a loop, three levels deep, runs millions."""


@dataclass
class NestedRuns:
    """The number of documents that the steps of this run have run, at all levels."""

    limit: int = 1000
    done: int = 0

    def count(self) -> None:
        """Note one more. Raises TooManyDocuments."""
        if self.done >= self.limit:
            raise TooManyDocuments(f"the steps of one run can run at most {self.limit} documents in total")
        self.done += 1


@dataclass
class StepEnvironment:
    """The shared environment of all steps of a run."""

    instance: Instance
    services: Services
    environment: Mapping[str, str]
    working_directory: str | None
    reporter: Reporter
    clock: Clock
    cancellation: Cancellation
    progress: Progress
    restarts: Restarts
    nested: NestedRuns = field(default_factory=NestedRuns)

    def reboot(self, key: str) -> None:
        """Restart the instance. Raises CannotReboot, TooManyReboots."""
        self.restarts.count()
        self.progress.record("reboot", key)
        self.progress.journal.sync()
        self.reporter.line("Rebooting the system now")
        self.instance.reboot()
        self.reporter.line("Executor: System has rebooted successfully")
