"""Ships the logs of log groups to a bucket, with `log_groups = "s3://BUCKET/PREFIX"` in the settings.

    log-groups/<path> changed --> put to s3://BUCKET/PREFIX/<path> --> unchanged for days --> the name is removed

The tree of names in the data directory is the list of pending work, so nothing is forgotten when the process ends:
the next one compares sizes and continues. An object is replaced as a whole, so putting it twice does no harm. A
bucket that cannot be reached is reported in the server's own log, and tried again; builds do not wait for it and
do not fail.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from imagesmith.build_logs.log_groups import FOLDER
from imagesmith.build_logs.logs import logs_below
from imagesmith.periodic import Periodic

_log = logging.getLogger(__name__)

ROUND_SECONDS = 10.0
_SETTLED_SECONDS = 8 * 86400.0
"""A step may wait for seven days before its log continues."""
_TYPE = "text/plain; charset=utf-8"
_PATIENCE_SECONDS = 10.0
"""How long close() waits for a put that is under way."""

MakeClient = Callable[[], Any]
State = tuple[int, int]
"""Size, and time of the last change in nanoseconds."""


class NotShipped(Exception):
    """Logs that could not be put, each with its reason; all others were put."""

    def __init__(self, failed: Mapping[Path, Exception], *, everything: bool = False) -> None:
        self.failed = failed
        first, error = next(iter(failed.items()))
        what = "the bucket cannot be reached, no log" if everything else f"{len(failed)} of them, {first}"
        super().__init__(f"{what}{' first' if len(failed) > 1 else ''}: {error}")


def is_outage(error: Exception) -> bool:
    """Whether the connection to the bucket fails, and not one log."""
    from botocore.exceptions import ConnectionError, HTTPClientError, NoCredentialsError

    return isinstance(error, ConnectionError | HTTPClientError | NoCredentialsError)


class LogShipper:
    """Puts changed logs periodically, in a thread of its own."""

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
        url = f"s3://{self._bucket}/{self._prefix}"
        self._rounds = Periodic(
            "log shipper", self._round, seconds=ROUND_SECONDS, at_once=True, last=True,
            failing=f"logs cannot be written to {url}", working=f"logs can be written to {url} again",
            expected=lambda _: True,
        )  # fmt: skip

    def start(self) -> None:
        self._rounds.start()

    def close(self) -> None:
        """End after a last round, or without its end when that takes long."""
        self._rounds.stop(_PATIENCE_SECONDS)

    def _round(self) -> None:
        self.ship()

    def ship(self) -> int:
        """One round, each log on its own; returns how many were put. Raises NotShipped after all were tried."""
        count = 0
        failed: dict[Path, Exception] = {}
        for path in logs_below(self._root):
            try:
                count += self._ship(path)
            except Exception as error:
                failed[path.relative_to(self._root)] = error
                if is_outage(error):
                    # the others would wait as long and fail as well
                    raise NotShipped(failed, everything=True) from error
        if failed:
            raise NotShipped(failed)
        return count

    def _ship(self, path: Path) -> int:
        """Put one log if it changed; 1 when it was put. Raises errors of boto3, or OSError."""
        state = _state(path)
        if state is None:
            return 0
        if self._put.get(path) != state:
            key = f"{self._prefix}{path.relative_to(self._root)}"
            needed = path in self._put or self._size_of(key) != state[0]
            if needed:
                self._s3.upload_file(str(path), self._bucket, key, ExtraArgs={"ContentType": _TYPE})
            self._put[path] = state
            return int(needed)
        if self._now() - state[1] / 1e9 > _SETTLED_SECONDS:
            path.unlink(missing_ok=True)
            del self._put[path]
        return 0

    @property
    def _s3(self) -> Any:
        if self._client is None:
            self._client = self._make_client()
        return self._client

    def _size_of(self, key: str) -> int:
        """Size of an earlier process's object; -1 without one. Logs only grow, so comparing sizes is enough."""
        from botocore.exceptions import ClientError

        try:
            return int(self._s3.head_object(Bucket=self._bucket, Key=key)["ContentLength"])
        except ClientError:
            return -1


def _state(path: Path) -> State | None:
    """Size and time, read before the log is put, so lines written meanwhile count as a change."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns
