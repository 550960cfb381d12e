"""`component run --watch`: again after each save, from the last good step's snapshot on a container."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from imagesmith.cli.component_documents import LoadedComponents, RunRequest, check_parameters, load, show_loaded
from imagesmith.cli.component_run import document_runs, instance_of, interruptible, run_loaded
from imagesmith.cli.context import CommandFailed
from imagesmith.cli.screen import echo
from imagesmith.components.journal import VERSION
from imagesmith.components.reporting import NullReporter, ReportedStep
from imagesmith.components.results import StepResult
from imagesmith.components.runner import fingerprint
from imagesmith.components.watching import WatchedStep, WatchJournal, plan, unchanged, valid_entries
from imagesmith.instances.protocol import Instance, Snapshot
from imagesmith.processes import Cancellation, Cancelled

_POLL_SECONDS = 0.2
_CHECKPOINT_SECONDS = 1.0
"""Seconds of work of steps that justify a checkpoint in watch mode."""


def run_watching(request: RunRequest) -> int:
    """Run, and rerun whenever a file is saved, until interrupted; a container returns to the last good step."""
    cancellation = SaveCancellation(request.files)
    with interruptible(cancellation), instance_of(request, cancellation) as instance:
        watch = _Watch(request, instance, cancellation)
        while True:
            cancellation.restart()
            watch.run_one()
            echo("waiting for a change (Ctrl-C ends)", fg="bright_black")
            while not cancellation.requested:
                cancellation.wait(_POLL_SECONDS)
            cancellation.check_interrupted()


class SaveCancellation(Cancellation):
    """Also requested when a file is saved, so that a stuck step ends when its document is corrected."""

    def __init__(self, files: Sequence[Path]) -> None:
        super().__init__()
        self._files = files
        self._stamp = _stamp(files)

    @property
    def requested(self) -> bool:
        return super().requested or _stamp(self._files) != self._stamp

    def restart(self) -> None:
        """Ignore all earlier saves."""
        self._stamp = _stamp(self._files)

    def check_interrupted(self) -> None:
        """Raise Cancelled unless a save ended the run."""
        if super().requested:
            raise Cancelled


def _stamp(files: Sequence[Path]) -> tuple[tuple[int, int], ...]:
    """Changes when a file is saved; for a file that is being replaced, the new one counts."""
    stamps: list[tuple[int, int]] = []
    for path in files:
        try:
            status = path.stat()
            stamps.append((status.st_mtime_ns, status.st_ino))
        except OSError:
            stamps.append((0, 0))
    return tuple(stamps)


@dataclass
class _Watch(NullReporter):
    """The state between runs: the steps that ran, and snapshots of a container after good steps."""

    request: RunRequest
    instance: Instance
    cancellation: SaveCancellation
    planned: list[WatchedStep] = field(default_factory=list)
    snapshots: dict[int, Snapshot] = field(default_factory=dict)
    """Number of finished steps -> the state after them."""
    journal: WatchJournal = field(default_factory=WatchJournal)
    _done: int = 0
    _good: bool = True
    _unsaved_seconds: float = 0.0

    def run_one(self) -> None:
        """One run; it ends early when a file is saved meanwhile."""
        try:
            loaded = load(self.request.files)
        except CommandFailed as error:
            echo(str(error), fg="red")
            return
        show_loaded(self.request.files, loaded)
        if not loaded.usable:
            echo("nothing was run: the documents have errors", fg="red")
            return
        try:
            check_parameters(self.request, loaded)
        except CommandFailed as error:
            echo(f"nothing was run: {error}", fg="red")
            return
        try:
            self._go_back(loaded)
            run_loaded(self.request, loaded, self.instance, self.cancellation, journal=self.journal, listener=self)
        except Cancelled:
            self.cancellation.check_interrupted()
            echo("saved during the run: starting again", fg="yellow")

    def _go_back(self, loaded: LoadedComponents) -> None:
        """Reset the instance and the journal to the last state that is still valid for the new documents."""
        request = self.request
        planned = plan(loaded.texts, loaded.documents, phases=request.phases, parameters=request.parameters)
        same = unchanged(self.planned, planned)
        entries = self.journal.entries or self.journal.finished
        start = max((count for count in self.snapshots if count <= same), default=0)
        if self.instance.kind == "container":
            if self.planned:
                self.instance.restore(self.snapshots[start])
            else:
                self.snapshots[0] = self.instance.checkpoint()
        self.snapshots = {count: state for count, state in self.snapshots.items() if count <= start}
        self.planned = planned
        self._done, self._good, self._unsaved_seconds = start, True, 0.0
        self.journal.entries.clear()
        if start:
            echo(f"continuing after step '{planned[start - 1].name}'", fg="bright_black")
            wanted = fingerprint(document_runs(request, loaded), request.phases)
            self.journal.append(
                {"kind": "execution", "version": VERSION, "id": str(uuid.uuid4()), "fingerprint": wanted}
            )
            for entry in valid_entries(entries, planned[:start]):
                self.journal.append(entry)

    def step_finished(self, _step: ReportedStep, result: StepResult) -> None:
        """Snapshot the state after good steps, once it contains enough work."""
        self._done += 1
        self._good = self._good and result.status in ("success", "skipped")
        self._unsaved_seconds += result.seconds
        if self.instance.kind != "container" or not self._good or self._unsaved_seconds < _CHECKPOINT_SECONDS:
            return
        self.snapshots[self._done] = self.instance.checkpoint()
        self._unsaved_seconds = 0.0
