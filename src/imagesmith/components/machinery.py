"""What all steps of one run share, and the restarts of its instance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from imagesmith.components.journal import Progress
from imagesmith.components.reporting import Reporter
from imagesmith.components.services import Clock, Services
from imagesmith.instances.protocol import Instance, InstanceError
from imagesmith.processes import Cancellation


class TooManyReboots(InstanceError):
    """The instance was restarted as often as a run may (9, rule 5)."""


@dataclass
class Restarts:
    """How often the instance was restarted in this run, nested documents included."""

    limit: int
    done: int = 0

    def count(self) -> None:
        """Note one more. Raises TooManyReboots."""
        if self.done >= self.limit:
            raise TooManyReboots(f"the instance was restarted {self.done} times, as often as a run may")
        self.done += 1


@dataclass
class Machinery:
    """What all steps of one run share."""

    instance: Instance
    services: Services
    environment: Mapping[str, str]
    working_directory: str | None
    reporter: Reporter
    clock: Clock
    cancellation: Cancellation
    progress: Progress
    restarts: Restarts

    def reboot(self, place: str) -> None:
        """Restart the instance. Raises CannotReboot, TooManyReboots."""
        self.restarts.count()
        self.progress.record("reboot", place)
        self.progress.journal.sync()
        self.reporter.line("Rebooting the system now")
        self.instance.reboot()
        self.reporter.line("Executor: System has rebooted successfully")
