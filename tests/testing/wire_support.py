"""A recording dispatcher and a raw HTTP client that signs; shared by the tests of `wire`."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from imagesmith.accounts.keys import AccessKey
from imagesmith.resources.dispatch import Caller, NotNow
from imagesmith.settings import Settings
from imagesmith.wire.model import Api

ACCOUNT = "123456789012"
REGION = "eu-west-1"
KEY = AccessKey("AKIAWIRETESTS0000001", "s" * 40, ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/tester")
TEMPORARY = AccessKey(
    "ASIAWIRETESTS0000002", "t" * 40, ACCOUNT, KEY.principal, "a session token",
    datetime(2030, 1, 1, tzinfo=UTC),
)  # fmt: skip
PIPELINE_ARN = f"arn:aws:imagebuilder:{REGION}:{ACCOUNT}:image-pipeline/mine"


@dataclass(frozen=True)
class SharedCommit:
    end: Callable[[], None]

    def joined(self) -> AbstractContextManager[None]:
        return nullcontext()


@dataclass
class Recorder:
    """A Dispatcher that remembers its last call and answers, or raises, what it was told."""

    operations: frozenset[str]
    answer: Callable[[str, Caller, Mapping[str, Any]], dict[str, Any]] = lambda *_: {}
    operation: str = ""
    caller: Caller | None = None
    request: Mapping[str, Any] | None = None
    short_reads: frozenset[str] = frozenset()
    short_changes: frozenset[str] = frozenset()
    changes: frozenset[str] = frozenset()
    commit: Callable[[], None] = lambda: None
    """What ends calls that share a commit; raises when it fails."""
    free: bool = True
    """Whether the turn comes for calls that share a commit."""

    def begin_batch(self, *, patience: float) -> SharedCommit:
        del patience
        if not self.free:
            raise NotNow
        return SharedCommit(self.commit)

    def call(self, operation: str, caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
        self.operation, self.caller, self.request = operation, caller, request
        return self.answer(operation, caller, request)


@dataclass
class Clock:
    """The real time plus an offset that tests move."""

    offset: timedelta = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.offset


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: Any
    """The JSON value."""

    @property
    def error(self) -> str:
        return self.headers.get("x-amzn-errortype", "")

    @property
    def message(self) -> str:
        return str(self.body["message"])

    @property
    def request_id(self) -> str:
        return str(self.headers["x-amzn-requestid"])


@dataclass
class Wire:
    """A listening server with everything behind it that a test can turn."""

    url: str
    api: Api
    dispatcher: Recorder
    clock: Clock
    _connection: http.client.HTTPConnection | None = field(default=None, repr=False)

    def reset(self) -> None:
        self.dispatcher.__init__(frozenset(self.api.operations))  # type: ignore[misc]
        self.clock.offset = timedelta()

    def sign(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        key: AccessKey = KEY,
        region: str = REGION,
        service: str = "imagebuilder",
    ) -> dict[str, str]:
        """The headers of a request, signed by botocore at the server's time."""
        request = AWSRequest(method, self.url + target, headers=dict(headers or {}), data=body)
        credentials = Credentials(key.access_key_id, key.secret, key.session_token or None)
        SigV4Auth(credentials, service, region).add_auth(request)
        return dict(request.headers.items())

    def send(self, method: str, target: str, body: bytes = b"", *, headers: Mapping[str, str]) -> Answer:
        """Send exactly this and give the answer; one connection is kept.

        The server may close a connection that was idle for long just when it is used again: then once more.
        """
        if self._connection is not None:
            try:
                return self._exchange(method, target, body, headers)
            except (http.client.RemoteDisconnected, ConnectionError):
                self.close()
        return self._exchange(method, target, body, headers)

    def _exchange(self, method: str, target: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        if self._connection is None:
            self._connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=30)
        try:
            self._connection.putrequest(method, target, skip_accept_encoding=True)
            if body or method in ("PUT", "POST"):
                self._connection.putheader("Content-Length", str(len(body)))
            for name, value in headers.items():
                self._connection.putheader(name, value.encode())
            self._connection.endheaders(body or None)
            response = self._connection.getresponse()
            data = response.read()
        except (http.client.HTTPException, OSError):
            self.close()
            raise
        return Answer(response.status, response.headers, json.loads(data) if data else None)

    def call(self, method: str, target: str, body: bytes | Any = b"", **signing: Any) -> Answer:
        """Sign and send; a body that is not bytes goes as JSON."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.send(method, target, data, headers=self.sign(method, target, data, **signing))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def settings_for(folder: Path, **values: Any) -> Settings:
    return Settings(data_dir=folder, account=ACCOUNT, region=REGION, **values)
