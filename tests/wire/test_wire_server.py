"""The listening server: bounds on everything that a client sends, and a clean end."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from imagesmith.accounts.keys import KeyRing
from imagesmith.wire import connection, server
from imagesmith.wire.create import create_app
from imagesmith.wire.limits import HttpLimits
from imagesmith.wire.model import Api
from imagesmith.wire.server import running
from testing.pipeline_support import eventually
from testing.wire_samples import request
from testing.wire_support import KEY, REGION, Clock, Recorder, Wire, settings_for

MIB = 1024 * 1024
TOO_LONG = {"message": "The request body is longer than 1048576 bytes."}

Serve = Callable[[HttpLimits], contextlib.AbstractContextManager[Wire]]


@dataclass
class Raw:
    """One connection, byte by byte."""

    socket: socket.socket

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> http.client.HTTPResponse:
        response = http.client.HTTPResponse(self.socket)
        response.begin()
        return response

    def ended(self) -> bool:
        """Has the server closed the connection?"""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


@contextlib.contextmanager
def connected(wire: Wire, timeout: float = 20) -> Iterator[Raw]:
    address = urlsplit(wire.url)
    with socket.create_connection((address.hostname, address.port), timeout=timeout) as made:
        yield Raw(made)


@pytest.fixture
def serve(api: Api, tmp_path: Path) -> Serve:
    """A server of one's own with other limits, trusting everybody."""

    @contextlib.contextmanager
    def start(limits: HttpLimits) -> Iterator[Wire]:
        dispatcher = Recorder(frozenset(api.operations))
        app = create_app(
            dispatcher, keys=KeyRing([]), settings=settings_for(tmp_path, auth="none"), clock=Clock(),
            ids=lambda: str(uuid.uuid4()), limits=limits, api=api,
        )  # fmt: skip
        with running(app) as url:
            wire = Wire(url, api, dispatcher, Clock())
            yield wire
            wire.close()
        app.close()

    return start


def head(method: str, path: str, **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: x", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def test_ten_megabytes_are_refused_with_the_documented_error(wire: Wire, client: Any) -> None:
    """A body over the limit is a SerializationException, also for a client that sends all before it reads."""
    answer = wire.call("PUT", "/UpdateImagePipeline", b" " * 10 * MIB)
    assert (answer.status, answer.error, answer.body) == (400, "SerializationException", TOO_LONG)
    members = request(wire.api.operations["CreateComponent"].input)
    with pytest.raises(ClientError) as caught:
        client.create_component(**{**members, "data": "x" * 10 * MIB})
    assert caught.value.response["Error"] == {"Code": "SerializationException", "Message": TOO_LONG["message"]}
    assert wire.dispatcher.operation == ""
    assert wire.call("GET", "/Nothing").status == 404


def test_the_limit_itself_is_allowed(wire: Wire) -> None:
    """A body of exactly the limit is read; one byte more is not."""
    assert wire.call("POST", "/ListImagePipelines", b"{}".ljust(MIB)).status == 200
    assert wire.call("POST", "/ListImagePipelines", b"{}".ljust(MIB + 1)).body == TOO_LONG


def test_authentication_comes_before_the_size(wire: Wire) -> None:
    """A stranger learns nothing from a long body."""
    answer = wire.send("PUT", "/UpdateImagePipeline", b" " * 2 * MIB, headers={})
    assert answer.error == "MissingAuthenticationTokenException"


def test_a_client_that_waits_is_told_before_it_sends(wire: Wire) -> None:
    """With `Expect: 100-continue` a body over the limit is never asked for."""
    with connected(wire) as raw:
        headers = wire.sign("PUT", "/UpdateImagePipeline", b"")
        raw.send(head("PUT", "/UpdateImagePipeline", **{**headers, "Expect": "100-continue",
                                                       "Content-Length": str(10 * MIB)}))  # fmt: skip
        answer = raw.socket.recv(65536)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert json.dumps(TOO_LONG, separators=(",", ":")).encode() in answer
        assert raw.ended()


def test_endless_bodies_are_cut_off(serve: Serve) -> None:
    """Past the second limit nothing more is read: the answer comes, and the connection is closed."""
    with serve(HttpLimits(body_bytes=1000, drain_bytes=200_000)) as wire, connected(wire) as raw:
        raw.send(head("PUT", "/UpdateImagePipeline", **{"Content-Length": str(10**12)}))
        answer = raw.answer()
        assert (answer.status, answer.headers["x-amzn-errortype"]) == (400, "SerializationException")
        assert answer.headers["connection"] == "close"
    with serve(HttpLimits(body_bytes=1000, drain_bytes=200_000)) as wire, connected(wire) as raw:
        raw.send(head("PUT", "/UpdateImagePipeline", **{"Transfer-Encoding": "chunked"}))
        with pytest.raises(ConnectionError):
            for _ in range(10_000):
                raw.send(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")


def test_bodies_over_the_limit_are_not_kept(serve: Serve) -> None:
    """While long bodies arrive, the server never holds more than a little of them."""
    with serve(HttpLimits(body_bytes=1000, drain_bytes=10**9)) as wire, ThreadPoolExecutor(4) as pool:
        tracemalloc.start()
        try:
            list(pool.map(lambda _: long_body(wire, 16 * MIB), range(8)))
            assert tracemalloc.get_traced_memory()[1] < 8 * MIB
        finally:
            tracemalloc.stop()


def long_body(wire: Wire, length: int) -> None:
    with connected(wire) as raw:
        raw.send(head("PUT", "/UpdateImagePipeline", **{"Content-Length": str(length)}))
        piece = b"x" * 65536
        for _ in range(length // len(piece)):
            raw.send(piece)
        assert raw.answer().status == 400


def test_chunked_bodies_are_read(serve: Serve) -> None:
    """A body without a declared length, in pieces, is the same body."""
    with serve(HttpLimits()) as wire, connected(wire) as raw:
        raw.send(head("POST", "/ListImagePipelines", **{"Transfer-Encoding": "chunked"}))
        for piece in (b'{"max', b'Results"', b": 7}"):
            raw.send(b"%x\r\n%s\r\n" % (len(piece), piece))
        raw.send(b"0\r\n\r\n")
        assert raw.answer().status == 200
        assert wire.dispatcher.request == {"maxResults": 7}


def test_a_body_that_does_not_come_is_given_up(serve: Serve) -> None:
    """A client that stops in the middle of its body gets an answer after the limit of time."""
    with serve(HttpLimits(body_seconds=0.2)) as wire, connected(wire) as raw:
        raw.send(head("POST", "/ListImagePipelines", **{"Content-Length": "10"}) + b"{")
        answer = raw.answer()
        assert (answer.status, json.loads(answer.read())["message"]) == (
            400, "The request body did not arrive within 0.2 seconds.",
        )  # fmt: skip
        assert raw.ended()


def test_clients_that_leave_do_no_harm(serve: Serve) -> None:
    """A connection that breaks in a body leaves nothing behind, and the next one is served."""
    with serve(HttpLimits()) as wire:
        for _ in range(20):
            with connected(wire) as raw:
                raw.send(head("POST", "/ListImagePipelines", **{"Content-Length": "10"}) + b"{")
        assert wire.call("POST", "/ListImagePipelines").status == 200
        assert wire.dispatcher.request == {}


@pytest.mark.parametrize(
    "data",
    [
        b"GET /" + b"x" * 100_000,
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"y" * 100_000,
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-Many: y\r\n" * 10_000,
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: " + b"z" * 100_000,
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 20_000,
    ],
)
def test_heads_are_bounded(serve: Serve, data: bytes) -> None:
    """A request line, header, number of headers, trailer or chunk marks without end: 400, and the end."""
    with serve(HttpLimits()) as wire, connected(wire) as raw:
        with contextlib.suppress(ConnectionError):
            raw.send(data)
        answer = raw.answer()
        assert (answer.status, answer.headers["connection"]) == (400, "close")


def test_a_head_that_does_not_come_is_given_up(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that says nothing, or stops in its head, also after a good request, is closed in time."""
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.3)
    with serve(HttpLimits()) as wire:
        for beginning in (b"", b"GET /heal", head("GET", "/healthz") + b"GET /heal"):
            with connected(wire) as raw:
                raw.send(beginning)
                if beginning.startswith(head("GET", "/healthz")):
                    assert raw.answer().read() == b'{"status":"ok"}'
                assert raw.ended()


@pytest.mark.parametrize(
    "data",
    [b"nonsense\r\n\r\n", b"\0" * 100, b"GET / HTTP/9.9\r\n\r\n", b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
     b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", b"CONNECT a:1 HTTP/1.1\r\nHost: x\r\n\r\n",
     b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n", b"GET http://a/%zz?%zz HTTP/1.1\r\nHost: x\r\n\r\n",
     b"GET //x/../y HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /#a HTTP/1.1\r\nHost: x\r\n\r\n",
     b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
     b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
     b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
     b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
     b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a\r\n\r\n",
     b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n",
     b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
)  # fmt: skip
def test_broken_http_is_refused(wire: Wire, data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """What is no HTTP, or names nothing, is answered with 4xx and never disturbs the server."""
    with connected(wire) as raw:
        raw.send(data)
        assert 400 <= raw.answer().status < 500
    assert wire.call("GET", "/Nothing").status == 404
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_too_many_requests_at_once_are_told_to_come_back(serve: Serve) -> None:
    """Above the bound of running requests the answer is 503, at once; health is still told."""
    entered, release = threading.Semaphore(0), threading.Event()
    with serve(HttpLimits(threads=2, requests=2)) as wire, ThreadPoolExecutor(2) as pool:

        def wait(*_: Any) -> dict[str, Any]:
            entered.release()
            release.wait(20)
            return {}

        wire.dispatcher.answer = wait
        waiting = [pool.submit(post, wire) for _ in range(2)]
        assert all(entered.acquire(timeout=20) for _ in waiting)
        assert post(wire) == (503, "ServiceUnavailableException")
        assert wire.send("GET", "/healthz", headers={}).status == 200
        release.set()
        assert [item.result() for item in waiting] == [(200, "")] * 2
        assert post(wire) == (200, "")


def post(wire: Wire) -> tuple[int, str]:
    connection = http.client.HTTPConnection(urlsplit(wire.url).netloc, timeout=20)
    try:
        connection.request("POST", "/ListImagePipelines")
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers.get("x-amzn-errortype", "")
    finally:
        connection.close()


def test_requests_run_side_by_side(serve: Serve) -> None:
    """A slow operation does not hold up another one."""
    together = threading.Barrier(4, timeout=20)
    with serve(HttpLimits(threads=4)) as wire, ThreadPoolExecutor(4) as pool:

        def meet(*_: Any) -> dict[str, Any]:
            together.wait()
            return {}

        wire.dispatcher.answer = meet
        assert [status for status, _ in pool.map(lambda _: post(wire), range(4))] == [200] * 4


PROGRAM = """
import sys, time, uuid
from datetime import UTC, datetime
from pathlib import Path
from imagesmith.settings import Settings
from imagesmith.wire.create import create_app
from imagesmith.accounts.keys import KeyRing
from imagesmith.wire.server import serve

class Slow:
    operations = frozenset({"ListImagePipelines"})
    short_reads = short_changes = changes = frozenset()
    def call(self, operation, caller, request):
        print("called", flush=True)
        sys.stdin.readline()
        return {}

app = create_app(Slow(), keys=KeyRing([]), settings=Settings(data_dir=Path("."), auth="none"),
                 clock=lambda: datetime.now(UTC), ids=lambda: str(uuid.uuid4()))
serve(app, sys.argv[1], 0, on_ready=lambda host, port: print(host, port, flush=True))
app.close()
print("closed", flush=True)
"""


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_stop_lets_running_requests_finish(ending: signal.Signals, host: str) -> None:
    """On SIGTERM and SIGINT the running request is answered, idle connections are closed, and serve() returns."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, host], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdin is not None

    def refuses() -> bool:
        another = http.client.HTTPConnection(host, int(port), timeout=20)
        another.request("POST", "/NoOperation")
        try:
            return another.getresponse().status == 503
        finally:
            another.close()

    try:
        shown, port = process.stdout.readline().split()
        assert (shown, int(port) > 0) == (host, True)
        idle = socket.create_connection((host, int(port)), timeout=20)
        connection = http.client.HTTPConnection(host, int(port), timeout=20)
        connection.request("POST", "/ListImagePipelines")
        assert process.stdout.readline() == "called\n"
        process.send_signal(ending)
        eventually(refuses, "the server stops")
        process.stdin.write("go on\n")
        process.stdin.flush()
        assert connection.getresponse().status == 200
        assert idle.recv(1) == b""
        assert process.communicate(timeout=20)[0] == "closed\n"
        assert process.returncode == 0
        idle.close()
        connection.close()
    finally:
        process.kill()
        process.communicate()


def test_an_address_in_use_is_an_error_of_its_own(wire: Wire) -> None:
    """serve() raises OSError for an address that cannot be had; nothing is started."""
    port = urlsplit(wire.url).port
    assert port is not None
    with pytest.raises(OSError, match="in use"):
        server.serve(lambda *_: None, "127.0.0.1", port, on_ready=lambda *_: None)


def test_mode_none_takes_unsigned_and_foreign_signatures(serve: Serve) -> None:
    """With `auth = none` boto3 with any keys works, and a key id of twelve digits is the account."""
    with serve(HttpLimits()) as wire:
        made = boto3.Session("210987654321", "any", region_name="eu-north-1").client(
            "imagebuilder", endpoint_url=wire.url, config=Config(retries={"total_max_attempts": 1})
        )
        made.list_image_pipelines()
        made.close()
        assert wire.dispatcher.caller is not None
        assert (wire.dispatcher.caller.account, wire.dispatcher.caller.region) == ("210987654321", "eu-north-1")
        assert wire.send("POST", "/ListImagePipelines", headers={}).status == 200
        assert (wire.dispatcher.caller.account, wire.dispatcher.caller.region) == (KEY.account, REGION)
