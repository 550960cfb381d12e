"""Short requests that come whole are taken without a task; in any other form they are answered alike."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from imagesmith.accounts.keys import KeyRing
from imagesmith.resources.dispatch import Caller
from imagesmith.resources.errors import invalid_request
from imagesmith.wire.app import App
from imagesmith.wire.connection import Connection
from imagesmith.wire.create import create_app
from imagesmith.wire.limits import HttpLimits
from imagesmith.wire.model import Api
from imagesmith.wire.server import running
from testing.wire_support import PIPELINE_ARN, Clock, Recorder, settings_for

GET, UPDATE, LIST = "GetImagePipeline", "UpdateImagePipeline", "ListImagePipelines"
BODY = json.dumps(
    {
        "imagePipelineArn": PIPELINE_ARN,
        "infrastructureConfigurationArn": PIPELINE_ARN.replace("image-pipeline", "infrastructure-configuration"),
        "clientToken": "token",
    }
).encode()
Call = Callable[[str, Caller, Mapping[str, Any]], dict[str, Any]]


def naming(operation: str, _caller: Caller, _request: Mapping[str, Any]) -> dict[str, Any]:
    return {"requestId": operation}


@contextmanager
def listening(
    api: Api, folder: Path, answer: Call = naming, **recorded: Any
) -> Iterator[tuple[socket.socket, App]]:
    dispatcher = Recorder(
        frozenset(api.operations), answer, short_reads=frozenset({GET}), short_changes=frozenset({UPDATE}),
        **recorded,
    )  # fmt: skip
    app = create_app(
        dispatcher, keys=KeyRing([]), settings=settings_for(folder, auth="none"), clock=Clock(),
        ids=lambda: str(uuid.uuid4()), limits=HttpLimits(body_bytes=4096, requests=2), api=api,
    )  # fmt: skip
    with running(app) as url:
        address = urlsplit(url)
        with socket.create_connection((address.hostname, address.port), timeout=20) as made:
            yield made, app
    app.close()


def get(*headers: str, version: str = "1.1") -> bytes:
    target = f"/{GET}?imagePipelineArn={quote(PIPELINE_ARN, safe='')}"
    return "\r\n".join([f"GET {target} HTTP/{version}", "Host: x", *headers, "", ""]).encode()


def update(body: bytes = BODY, *headers: str) -> bytes:
    lines = [f"PUT /{UPDATE} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def chunked(body: bytes) -> bytes:
    lines = [f"PUT /{UPDATE} HTTP/1.1", "Host: x", "Transfer-Encoding: chunked", "", ""]
    return "\r\n".join(lines).encode() + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


def listed() -> bytes:
    return f"POST /{LIST} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}".encode()


def answers(made: socket.socket, count: int) -> list[tuple[int, Any, dict[str, str]]]:
    """Status, JSON value and headers of so many responses, in the order they come."""
    found = []
    with made.makefile("rb") as file:
        for _ in range(count):
            response = http.client.HTTPResponse(Shared(file))  # type: ignore[arg-type]
            response.begin()
            body = response.read()
            found.append((response.status, json.loads(body), {k.lower(): v for k, v in response.headers.items()}))
    return found


class Shared:
    """A file that several responses are read from."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.close = lambda: None

    def makefile(self, *_: Any) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of the requests that got a task."""
    seen: list[str] = []
    original = Connection._start_asgi_task

    def note(self: Connection, cycle: Any, app: Any) -> None:
        seen.append(cycle.scope["path"])
        original(self, cycle, app)

    monkeypatch.setattr(Connection, "_start_asgi_task", note)
    return seen


def test_whole_short_requests_are_taken(api: Api, tmp_path: Path, tasks: list[str]) -> None:
    """A read and a change need no task, with the same headers as ever; what is not short has one."""
    with listening(api, tmp_path) as (made, _):
        for data in (get(), update(), chunked(BODY), listed()):
            made.sendall(data)
            [(status, body, headers)] = answers(made, 1)
            assert status == 200 and body["requestId"] in (GET, UPDATE, LIST)
            assert headers["content-type"] == "application/json" and "date" in headers
            assert uuid.UUID(headers["x-amzn-requestid"]) and "connection" not in headers
    assert tasks == [f"/{LIST}"]


@pytest.mark.parametrize("at", [1, 40, len(update()) - len(BODY), len(update()) - 5])
def test_requests_in_pieces_are_answered_alike(api: Api, tmp_path: Path, at: int) -> None:
    """Wherever a request is cut, its answer is the same."""
    with listening(api, tmp_path) as (made, _):
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.sendall(update()[:at])
        with pytest.raises(TimeoutError):
            made.settimeout(0.05)
            made.recv(1)
        made.settimeout(20)
        made.sendall(update()[at:])
        assert [(status, body["requestId"]) for status, body, _ in answers(made, 1)] == [(200, UPDATE)]


def test_pipelined_requests_are_answered_in_their_order(api: Api, tmp_path: Path) -> None:
    """A change that waits for its commit holds up what comes behind it on its connection."""
    order = [UPDATE, GET, LIST, UPDATE, UPDATE, GET, LIST, GET]
    parts = {UPDATE: update(), GET: get(), LIST: listed()}
    with listening(api, tmp_path) as (made, _):
        for _ in range(3):
            made.sendall(b"".join(parts[name] for name in order))
            found = answers(made, len(order))
            assert [body["requestId"] for _, body, _ in found] == order


@pytest.mark.parametrize("data", [get("Connection: close"), get(version="1.0"), update(BODY, "Connection: close")])
def test_a_client_that_wants_the_end_gets_it(api: Api, tmp_path: Path, data: bytes) -> None:
    """The answer says that the connection ends, and it does."""
    with listening(api, tmp_path) as (made, _):
        made.sendall(data)
        [(status, _, headers)] = answers(made, 1)
        assert (status, headers["connection"]) == (200, "close")
        assert made.recv(1) == b""


def test_refusals_are_told_the_short_way_too(api: Api, tmp_path: Path, tasks: list[str]) -> None:
    """An error has its status, code and message, and the connection goes on."""

    def refuse(*_: Any) -> dict[str, Any]:
        raise invalid_request("no")

    with listening(api, tmp_path, refuse) as (made, _):
        for data in (update(), get(), update(b"{")):
            made.sendall(data)
            [(status, body, headers)] = answers(made, 1)
            assert status == 400 and set(body) == {"message"} and headers["x-amzn-errortype"].endswith("Exception")
    assert tasks == []


def test_bounds_hold_for_whole_requests(api: Api, tmp_path: Path) -> None:
    """A body over the limit is refused as ever, also when it came in one piece with its head."""
    with listening(api, tmp_path) as (made, _):
        made.sendall(update(BODY.ljust(5000)))
        [(status, body, _)] = answers(made, 1)
        assert (status, body) == (400, {"message": "The request body is longer than 4096 bytes."})
        made.sendall(update(BODY.ljust(4096)))
        assert answers(made, 1)[0][0] == 200


def test_a_change_whose_client_left_is_made(api: Api, tmp_path: Path) -> None:
    """Nothing breaks when the answer has nobody to go to, and a stop waits for the commit."""
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def commit() -> None:
        begun.set()
        assert go_on.wait(20)
        ended.set()

    with listening(api, tmp_path, commit=commit) as (made, app):
        made.sendall(update())
        assert begun.wait(20)
        assert not app.drain()
        with closing(made):
            pass
        go_on.set()
    assert ended.is_set() and app.drain()


def test_a_stopping_server_answers_what_it_took(api: Api, tmp_path: Path) -> None:
    """The answer to a change that was under way is followed by the end of the connection."""
    begun, go_on = threading.Event(), threading.Event()

    def commit() -> None:
        begun.set()
        assert go_on.wait(20)

    with listening(api, tmp_path, commit=commit) as (made, app):
        made.sendall(update())
        assert begun.wait(20)
        assert not app.drain()
        made.sendall(get())
        go_on.set()
        found = answers(made, 2)
        assert [status for status, _, _ in found] == [200, 503]
        assert found[1][2]["connection"] == "close" and made.recv(1) == b""


def test_a_turn_that_others_have_leaves_a_request_to_the_pool(api: Api, tmp_path: Path) -> None:
    """A change that cannot be made with others is made alone, and answered on its connection in order."""
    with listening(api, tmp_path, free=False) as (made, app):
        made.sendall(update() + get())
        assert [body["requestId"] for _, body, _ in answers(made, 2)] == [UPDATE, GET]
        assert app.drain()
