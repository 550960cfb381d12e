"""Logs in the shared store of all hosts: every worker stores its own, a reader merges them.

    logs/<account>/<region>/<image slug>/<version>/<build>/<worker>.log                        the build's
    logs/<account>/<region>/<image slug>/<version>/<build>/<worker>/<run>/<step>.log           a step's

Each is a copy of the file on its worker, replaced as a whole after the file has grown. Lines begin with their
instant, which orders the lines of several workers (a build that was taken over, members of a group).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from imagesmith.artifacts.shared import NotShared, SharedStore, SharedStoreError
from imagesmith.build_logs.logs import LAST_LINE_WAITS, is_last, log_path, logs_below
from imagesmith.periodic import Periodic

_log = logging.getLogger(__name__)

_ROUND_SECONDS = 2.0


class LogSender:
    """Puts the logs of the builds on this worker periodically, in a thread of its own."""

    def __init__(self, store: SharedStore, logs: Path, worker: str) -> None:
        self._store = store
        self._logs = logs
        self._worker = worker
        self._lock = threading.Lock()
        self._builds: dict[str, int] = {}
        """Image -> number of its runs on this worker."""
        self._sent: dict[Path, int] = {}
        self._rounds = Periodic(
            "log sender", self._send_all, seconds=_ROUND_SECONDS, failing="logs cannot reach the shared store"
        )
        self._rounds.start()

    def begin(self, image_arn: str) -> None:
        with self._lock:
            self._builds[image_arn] = self._builds.get(image_arn, 0) + 1

    def end(self, image_arn: str) -> None:
        """Note the end of a run and put all its lines; the server's own log says why if that fails."""
        self.send(image_arn)
        with self._lock:
            self._builds[image_arn] -= 1
            if not self._builds[image_arn]:
                del self._builds[image_arn]
                folder = log_path(self._logs, image_arn).with_suffix("")
                gone = [log for log in self._sent if folder in log.parents or log.with_suffix("") == folder]
                for log in gone:
                    del self._sent[log]

    def close(self) -> None:
        self._rounds.stop()

    def send(self, image_arn: str) -> None:
        """Put logs that have grown. A store that cannot be reached does not fail builds."""
        own = log_path(self._logs, image_arn)
        folder = own.with_suffix("")
        for log in (own, *logs_below(folder)):
            try:
                size = log.stat().st_size if log.exists() else 0
                if size != self._sent.get(log, 0):
                    step = "" if log == own else f"/{log.relative_to(folder).with_suffix('').as_posix()}"
                    self._store.put_file(_name(image_arn, f"{self._worker}{step}"), log)
                    self._sent[log] = size
            except (SharedStoreError, OSError) as error:
                _log.warning("the log %s is not in the shared store yet: %s", log, error)

    def _send_all(self) -> None:
        with self._lock:
            builds = list(self._builds)
        for image_arn in builds:
            self.send(image_arn)


def follow_shared(
    store: SharedStore,
    image_arn: str,
    workers: Callable[[], Sequence[str]],
    is_over: Callable[[], bool],
    wait: Callable[[], None],
    *,
    step: str = "",
    ends: bool = False,
) -> Iterator[str]:
    """The lines of a build, or of one step (`<run>/<step>`), from all workers until the build or step is over.

    `workers` returns their names; `ends`: the log has a last line, for which this waits a little longer.
    """
    read: dict[str, int] = {}
    last, patience = False, LAST_LINE_WAITS
    while True:
        ended = is_over()
        found: list[str] = []
        for worker in workers():
            lines = _lines(store, _name(image_arn, f"{worker}/{step}" if step else worker))
            found += lines[read.get(worker, 0) :]
            read[worker] = max(read.get(worker, 0), len(lines))
        # by instant; the lines of one worker stay in order, because sorting is stable
        for line in sorted(found, key=lambda it: it.partition(" ")[0]):
            last = is_last(line)
            yield line
        if ended and (last or not ends or not patience):
            return
        patience -= ended
        wait()


def _lines(store: SharedStore, name: str) -> list[str]:
    try:
        data = store.get(name)
    except NotShared:
        return []
    whole, _, _ = data.rpartition(b"\n")
    return whole.decode(errors="replace").splitlines() if whole else []


def _name(image_arn: str, rest: str) -> str:
    return f"{log_path(Path('logs'), image_arn).with_suffix('').as_posix()}/{rest}.log"
