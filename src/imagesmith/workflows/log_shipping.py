"""The logs of log groups in a bucket, when the settings say `log_groups = "s3://BUCKET/PREFIX"`.

    log-groups/<path> changed --> put to s3://BUCKET/PREFIX/<path> --> unchanged for days --> the name is removed

The tree of names in the data directory is the list of what is to be done, so nothing is forgotten when the process
ends: the next one compares sizes and goes on. An object is replaced as a whole, so putting it twice does no harm.
A bucket that cannot be reached is told in the server's own log, and tried again; builds do not wait for it and do
not fail.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from imagesmith.workflows.log_groups import FOLDER
from imagesmith.workflows.logs import logs_below

_log = logging.getLogger(__name__)

ROUND_SECONDS = 10.0
_SETTLED_SECONDS = 8 * 86400.0
"""A step may wait for seven days, and its log then goes on."""
_TYPE = "text/plain; charset=utf-8"
_PATIENCE_SECONDS = 10.0
"""How long close() waits for what is being put."""

MakeClient = Callable[[], Any]
State = tuple[int, int]
"""Size, and time of the last change in nanoseconds."""


class LogShipper:
    """Puts what changed, round after round, in a thread of its own."""

    def __init__(self, data_dir: Path, target: str, client: MakeClient, now: Callable[[], float]) -> None:
        """`target`: `s3://BUCKET[/PREFIX]`; `now`: seconds since 1970. Raises ValueError."""
        bucket, _, prefix = target.removeprefix("s3://").partition("/")
        if not target.startswith("s3://") or not bucket:
            raise ValueError(f"log_groups is {target!r}, expected s3://BUCKET or s3://BUCKET/PREFIX")
        self._root = data_dir / FOLDER
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self._make_client = client
        self._client: Any = None
        self._now = now
        self._put: dict[Path, State] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="log shipper", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End after a last round, or without it when that takes long."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(_PATIENCE_SECONDS)

    def ship(self) -> int:
        """One round; gives how many were put. Raises what boto3 raises, or OSError, at the first that cannot be."""
        count = 0
        for path in logs_below(self._root):
            state = _state(path)
            if state is None:
                continue
            if self._put.get(path) != state:
                key = f"{self._prefix}{path.relative_to(self._root)}"
                if path in self._put or self._size_of(key) != state[0]:
                    self._s3.upload_file(str(path), self._bucket, key, ExtraArgs={"ContentType": _TYPE})
                    count += 1
                self._put[path] = state
            elif self._now() - state[1] / 1e9 > _SETTLED_SECONDS:
                path.unlink(missing_ok=True)
                del self._put[path]
        return count

    def _run(self) -> None:
        failing = ""
        while True:
            last = self._stopping.is_set()
            try:
                self.ship()
                failing = ""
            except Exception as error:
                # the same trouble is told once, not every few seconds
                if str(error) != failing:
                    _log.warning("logs cannot be put into s3://%s/%s: %s", self._bucket, self._prefix, error)
                failing = str(error)
            if last:
                return
            self._stopping.wait(ROUND_SECONDS)

    @property
    def _s3(self) -> Any:
        if self._client is None:
            self._client = self._make_client()
        return self._client

    def _size_of(self, key: str) -> int:
        """Bytes of what an earlier process put; -1 when it put nothing. Logs only grow, so the size is enough."""
        from botocore.exceptions import ClientError

        try:
            return int(self._s3.head_object(Bucket=self._bucket, Key=key)["ContentLength"])
        except ClientError:
            return -1


def _state(path: Path) -> State | None:
    """Asked before the log is put, so what is written meanwhile counts as a change."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns
