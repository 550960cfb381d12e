"""The log lines of a build or of one of its steps, as they arrive: `imagesmith image logs`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from imagesmith.artifacts.shared import SharedStoreError
from imagesmith.build_logs.logs import follow, log_path, step_log_path
from imagesmith.build_logs.shared_logs import follow_shared
from imagesmith.builds.stores import open_exchange
from imagesmith.cli.context import CommandFailed, api_errors, connect, settings_of
from imagesmith.cli.store import opened_store
from imagesmith.store.workers import list_workers
from imagesmith.values.states import FINAL_IMAGE, FINAL_STEP

_POLL_SECONDS = 0.3
_AWAY_SECONDS = 120.0
"""How long a server may be unreachable, for a restart or an upgrade, before following ends with an error."""

Value = TypeVar("Value")


class RetryingClient:
    """A client of a data directory's server, which may be unreachable for a while and restart on another port.

    ask() does not wait for the server: its callers print the log of the build meanwhile.
    """

    def __init__(self, data_dir: Path, *, away_seconds: float = _AWAY_SECONDS) -> None:
        self._data_dir = data_dir
        self._away_seconds = away_seconds
        self._client: Any = None
        self._since: float | None = None

    def ask(self, question: Callable[[Any], Value]) -> Value | None:
        """The answer of `question(client)`; None while the server is unreachable. Raises CommandFailed."""
        from botocore import exceptions

        try:
            with api_errors():
                self._client = self._client or connect(self._data_dir)
                answer = question(self._client)
        except CommandFailed as error:
            cause = error.__cause__
            stopping = (
                isinstance(cause, exceptions.ClientError)
                and cause.response["ResponseMetadata"]["HTTPStatusCode"] == 503
            )
            away = (
                stopping
                or cause is None
                or isinstance(cause, exceptions.HTTPClientError | exceptions.ConnectionError)
            )
            self._since = self._since or time.monotonic()
            if not away or time.monotonic() - self._since > self._away_seconds:
                raise
            self._client = None
            return None
        self._since = None
        return answer


@dataclass(frozen=True)
class _Step:
    """The newest record of a step: its run, and whether it has ended."""

    execution: str
    over: bool


class LogWatch:
    """The log of an image build, or of its step `step`."""

    def __init__(self, data_dir: Path, arn: str, step: str) -> None:
        self._arn = arn
        self._step = step
        self._settings = settings_of(data_dir)
        self._logs = self._settings.data_dir / "logs"
        self._server = RetryingClient(data_dir)

    def lines(self, *, keep_following: bool) -> Iterator[str]:
        """The existing lines; with `keep_following` also new ones, until the end. Raises CommandFailed."""
        if not self._step:
            path = log_path(self._logs, self._arn)
            over = self._is_over(self._image_over, keep_following)
            if self._is_shared:
                yield from self._from_all_hosts(over, ends=keep_following)
            else:
                yield from follow(path, over, _wait, ends=keep_following)
            return
        found = self._wait_for_step(keep_following=keep_following)
        path = step_log_path(self._logs, self._arn, found.execution, self._step)
        over = self._is_over(self._step_over, keep_following)
        if self._is_shared:
            yield from self._from_all_hosts(over, step=f"{found.execution}/{self._step}", ends=False)
        else:
            yield from follow(path, over, _wait)

    @property
    def _is_shared(self) -> bool:
        return bool(self._settings.database_url and self._settings.artifacts)

    def _from_all_hosts(self, over: Callable[[], bool], *, step: str = "", ends: bool) -> Iterator[str]:
        def workers() -> list[str]:
            with opened_store(self._settings) as tx:
                return [seen.worker.name for seen in list_workers(tx)]

        try:
            exchange = open_exchange(self._settings)
            assert exchange is not None
            yield from follow_shared(exchange.store, self._arn, workers, over, _wait, step=step, ends=ends)
        except SharedStoreError as error:
            raise CommandFailed(f"the log cannot be read: {error}") from error

    def _is_over(self, probe: Callable[[Any], bool], keep_following: bool) -> Callable[[], bool]:
        return lambda: not keep_following or bool(self._server.ask(probe))

    def _image_over(self, client: Any) -> bool:
        return client.get_image(imageBuildVersionArn=self._arn)["image"]["state"]["status"] in FINAL_IMAGE

    def _step_over(self, client: Any) -> bool:
        found, _ = self._find(client)
        return found is None or found.over or self._image_over(client)

    def _wait_for_step(self, *, keep_following: bool) -> _Step:
        while True:
            over = self._server.ask(self._image_over)
            found, known = self._server.ask(self._find) or (None, ())
            if found is not None:
                return found
            if over or (over is not None and not keep_following):
                raise CommandFailed(
                    f"no workflow of {self._arn} has a step {self._step}",
                    f"its steps are: {', '.join(known) or 'none yet'}",
                )
            _wait()

    def _find(self, client: Any) -> tuple[_Step | None, list[str]]:
        """The step of the newest run with a step of this name, and the names of all steps."""
        pages = client.get_paginator("list_workflow_executions").paginate(imageBuildVersionArn=self._arn)
        known: list[str] = []
        for run in reversed([run for page in pages for run in page["workflowExecutions"]]):
            id = run["workflowExecutionId"]
            steps: list[Mapping[str, Any]] = client.list_workflow_step_executions(workflowExecutionId=id)["steps"]
            for step in steps:
                if step["name"] == self._step:
                    return _Step(id, step["status"] in FINAL_STEP), known
            known = [step["name"] for step in steps] + known
        return None, known


def _wait() -> None:
    time.sleep(_POLL_SECONDS)
