"""Logs as server-sent events: who may follow, what is sent, where it goes on, and how it ends."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import tempfile
import threading
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from imagesmith.accounts.keys import AccessKey, KeyRing
from imagesmith.build_logs.logs import BuildLog, LogReader, log_path, step_log_path
from imagesmith.policies.access import parse_access_policy
from imagesmith.resources.errors import not_found
from imagesmith.wire.app import App
from imagesmith.wire.create import create_app
from imagesmith.wire.limits import HttpLimits
from imagesmith.wire.log_streams import StreamLimits
from imagesmith.wire.model import Api
from imagesmith.wire.server import running
from testing.wire_support import ACCOUNT, KEY, REGION, Clock, Recorder, Wire, settings_for

ARN = f"arn:aws:imagebuilder:{REGION}:{ACCOUNT}:image/web/1.0.0/1"
RUN = "wf-11111111-2222-3333-4444-555555555555"
STEP = "step-11111111-2222-3333-4444-555555555555"
DENIED = AccessKey(
    "AKIAWIRETESTS0000003",
    "d" * 40,
    ACCOUNT,
    KEY.principal,
    policy=parse_access_policy('{"deny": ["imagebuilder:GetImage"]}'),
)
IMAGE = f"/logs/image?imageBuildVersionArn={quote(ARN, safe='')}"


@dataclass(frozen=True)
class Event:
    """One event, or a comment."""

    id: str = ""
    name: str = ""
    data: str = ""
    comment: str = ""


def parse(lines: Iterator[bytes]) -> Iterator[Event]:
    """The events of a stream by the rules of the HTML standard, as far as the server uses them."""
    fields: dict[str, str] = {}
    for raw in lines:
        line = raw.decode().rstrip("\n")
        if not line:
            if fields and "retry" not in fields:
                yield Event(
                    fields.get("id", ""), fields.get("event", ""), fields.get("data", ""), fields.get("", "")
                )
            fields = {}
            continue
        name, _, value = line.partition(": ")
        assert name not in fields
        fields[name.rstrip(":")] = value


@dataclass
class Logs:
    """A server, an image whose state the test decides, and the image's log."""

    wire: Wire
    app: App
    folder: Path
    state: str = "BUILDING"
    step: str = "RUNNING"
    asked: list[str] = field(default_factory=list)

    def answer(self, operation: str, _caller: Any, request: Any) -> dict[str, Any]:
        self.asked.append(operation)
        if operation == "GetWorkflowStepExecution":
            return {
                "imageBuildVersionArn": ARN, "workflowExecutionId": RUN, "name": "Work", "status": self.step,
                "stepExecutionId": request["stepExecutionId"],
            }  # fmt: skip
        if request["imageBuildVersionArn"] != ARN:
            raise not_found("image", request["imageBuildVersionArn"])
        return {"image": {"arn": ARN, "state": {"status": self.state}}}

    @contextlib.contextmanager
    def log(self, *, step: bool = False) -> Iterator[BuildLog]:
        path = step_log_path(self.folder, ARN, RUN, "Work") if step else log_path(self.folder, ARN)
        log = BuildLog(path, lambda: datetime(2026, 11, 23, 12, tzinfo=UTC))
        yield log
        log.close()

    def write(self, *lines: str, stage: str = "build", step: bool = False) -> None:
        with self.log(step=step) as log:
            for line in lines:
                log.line(stage, line)

    @contextlib.contextmanager
    def follow(
        self, target: str = IMAGE, last: str = ""
    ) -> Iterator[tuple[http.client.HTTPResponse, Iterator[Event]]]:
        """An answer while it arrives, and its events."""
        connection = http.client.HTTPConnection(urlsplit(self.wire.url).netloc, timeout=20)
        headers = self.wire.sign("GET", target)
        connection.request("GET", target, headers={**headers, **({"Last-Event-ID": last} if last else {})})
        response = connection.getresponse()
        try:
            yield response, parse(iter(response.readline, b""))
        finally:
            response.close()
            connection.close()

    def end(self, state: str = "AVAILABLE") -> None:
        """The image ends, and just then its log."""
        self.state = state
        self.write(state, stage="end")


MakeLogs = Callable[..., Logs]


@pytest.fixture
def make_logs(tmp_path: Path, api: Api) -> Iterator[MakeLogs]:
    with contextlib.ExitStack() as stack:

        def make(**limits: Any) -> Logs:
            dispatcher = Recorder(frozenset(api.operations))
            clock = Clock()
            app = create_app(
                dispatcher, keys=KeyRing([KEY, DENIED]), settings=settings_for(tmp_path), clock=clock,
                ids=lambda: str(uuid.uuid4()), api=api,
                limits=HttpLimits(streams=StreamLimits(poll=0.02, ask=0.05, **limits)),
            )  # fmt: skip
            stack.callback(app.close)
            wire = Wire(stack.enter_context(running(app)), api, dispatcher, clock)
            stack.callback(wire.close)
            logs = Logs(wire, app, tmp_path / "logs")
            dispatcher.answer = logs.answer
            return logs

        yield make


@pytest.fixture
def logs(make_logs: MakeLogs) -> Logs:
    return make_logs()


def test_lines_arrive_while_the_build_runs_and_the_stream_ends_with_it(logs: Logs) -> None:
    """Also a log that is not there yet; the end names the state, after the last line."""
    with logs.follow() as (response, events):
        assert response.status == 200
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert response.headers["cache-control"] == "no-store"
        for number in range(3):
            logs.write(f"line {number}")
            event = next(events)
            assert event.data == f"2026-11-23T12:00:00.000Z build | line {number}"
            assert int(event.id) == log_path(logs.folder, ARN).stat().st_size
        logs.end()
        assert next(events).data.endswith(" end | AVAILABLE")
        assert next(events) == Event(name="end", data='{"status": "AVAILABLE"}')
        assert next(events, None) is None


def test_the_last_line_is_waited_for(logs: Logs) -> None:
    """An image is over a moment before its log says so; the line is not lost."""
    logs.write("one")
    with logs.follow() as (_, events):
        assert next(events).data.endswith("one")
        logs.state = "FAILED"
        with logs.log() as log:
            log.line("end", "FAILED: because")
        assert [event.data[-9:] or event.name for event in events] == [": because", '"FAILED"}']


def test_a_log_without_a_last_line_ends_too(logs: Logs) -> None:
    """A full disk may have swallowed it."""
    logs.write("one")
    logs.state = "CANCELLED"
    with logs.follow() as (_, events):
        assert [event.name for event in events] == ["", "end"]


def test_a_step_has_a_stream_of_its_own(logs: Logs) -> None:
    """It ends with the step, whatever the image does."""
    logs.write("of the image")
    logs.write("of the step", step=True)
    with logs.follow(f"/logs/step?stepExecutionId={STEP}") as (_, events):
        assert next(events).data.endswith("build | of the step")
        logs.write("last", step=True)
        logs.step = "COMPLETED"
        assert next(events).data.endswith("build | last")
        assert next(events) == Event(name="end", data='{"status": "COMPLETED"}')
    assert set(logs.asked) == {"GetWorkflowStepExecution"}


def test_a_client_goes_on_where_it_was(logs: Logs) -> None:
    """With the id of any event the next line comes first; after the end there is nothing more to ask for."""
    logs.write("one", "two", "three")
    logs.end()
    with logs.follow() as (_, events):
        every = list(events)
    for number, event in enumerate(every[:-2]):
        with logs.follow(last=event.id) as (_, rest):
            assert list(rest) == every[number + 1 :]
    with logs.follow(last=every[-2].id) as (response, rest):
        assert (response.status, list(rest)) == (204, [])


@pytest.mark.parametrize("last", ["-1", "x", "1", "99999", "1e3", "9" * 16])
def test_a_place_that_is_no_event_of_the_log_is_refused(logs: Logs, last: str) -> None:
    """Inside a line, past the end, or no number."""
    logs.write("one")
    with logs.follow(last=last) as (response, _):
        assert (response.status, response.headers["x-amzn-errortype"]) == (400, "InvalidParameterValueException")
        assert last[:32] in json.loads(response.read())["message"]


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        (IMAGE.replace("web", "other"), 404, "ResourceNotFoundException"),
        ("/logs/image", 400, "InvalidParameterValueException"),
        ("/logs/image?imageBuildVersionArn=nonsense", 400, "InvalidParameterValueException"),
        ("/logs/other", 404, "UnknownOperationException"),
    ],
)
def test_refusals_are_those_of_the_api(logs: Logs, target: str, status: int, code: str) -> None:
    """An unknown image, a member that is missing or wrong, an unknown path."""
    answer = logs.wire.call("GET", target)
    assert answer.error == code and answer.status == status, answer


def test_a_log_needs_a_signature_and_the_right_to_read(logs: Logs) -> None:
    """Nothing is sent without a signature, with a wrong one, or with a key that may not read the image."""
    assert logs.wire.send("GET", IMAGE, headers={}).error == "MissingAuthenticationTokenException"
    headers = logs.wire.sign("GET", IMAGE)
    assert logs.wire.send("GET", IMAGE.replace("web", "wib"), headers=headers).error == "InvalidSignatureException"
    assert logs.wire.call("GET", IMAGE, key=DENIED).error == "AccessDeniedException"
    assert not logs.asked


def test_a_presigned_address_can_be_followed(logs: Logs) -> None:
    """What a page in a browser uses, which cannot sign headers."""
    logs.write("one")
    logs.end()
    request = AWSRequest("GET", logs.wire.url + IMAGE)
    SigV4QueryAuth(Credentials(KEY.access_key_id, KEY.secret), "imagebuilder", REGION, expires=60).add_auth(request)
    with urllib.request.urlopen(str(request.url), timeout=20) as response:
        assert [event.name for event in parse(response)] == ["", "", "end"]


def test_plain_curl_signs_what_the_server_accepts(logs: Logs) -> None:
    """The command of the documentation, with ids of both kinds."""
    logs.write("one")
    logs.end()
    logs.write("one", step=True)
    logs.step = "COMPLETED"
    for target in (f"/logs/image?imageBuildVersionArn={ARN}", f"/logs/step?stepExecutionId={STEP}"):
        done = subprocess.run(
            [
                "curl", "--silent", "--show-error", "--no-buffer", "--fail-with-body", "--max-time", "20",
                "--aws-sigv4", f"aws:amz:{REGION}:imagebuilder", "--user", f"{KEY.access_key_id}:{KEY.secret}",
                logs.wire.url + target,
            ],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert "data: 2026-11-23T12:00:00.000Z build | one\n" in done.stdout
        assert "event: end\n" in done.stdout


def test_a_quiet_stream_says_that_it_is_there(make_logs: MakeLogs) -> None:
    """Comments, which clients ignore and proxies see."""
    with make_logs(heartbeat=0.05).follow() as (_, events):
        assert [next(events).comment for _ in range(3)] == ["keep-alive"] * 3


def test_followers_are_counted(make_logs: MakeLogs) -> None:
    """One too many is told to come back; a place is free again when a client goes."""
    logs = make_logs(streams=2)
    with logs.follow() as (one, _), logs.follow() as (two, _):
        assert (one.status, two.status) == (200, 200)
        with logs.follow() as (three, _):
            assert (three.status, three.headers["retry-after"]) == (503, "1")
    tries = threading.Event()
    for _ in range(200):
        with logs.follow() as (again, _):
            if again.status == 200:
                break
        tries.wait(0.02)
    assert again.status == 200


def test_a_draining_server_ends_its_streams(logs: Logs) -> None:
    """The client is told to connect again, and the server is idle soon after."""
    logs.write("one")
    with logs.follow() as (_, events):
        first = next(events)
        assert not logs.app.drain()
        assert next(events).comment == "connect again with Last-Event-ID"
        assert next(events, None) is None
    wait = threading.Event()
    for _ in range(200):
        if logs.app.drain():
            break
        wait.wait(0.02)
    assert logs.app.drain()
    assert logs.wire.call("GET", IMAGE, headers={"Last-Event-ID": first.id}).status == 503


def test_a_stream_does_not_last_for_ever(make_logs: MakeLogs) -> None:
    """After its longest time the client has to show its key again."""
    with make_logs(longest=0.1).follow() as (_, events):
        assert [event.comment for event in events] == ["connect again with Last-Event-ID"]


def test_an_image_that_is_deleted_ends_its_stream(logs: Logs) -> None:
    """The answer has begun, so a comment tells why."""
    with logs.follow() as (_, events):
        logs.wire.dispatcher.answer = lambda *_: (_ for _ in ()).throw(not_found("image", ARN))
        assert [event.comment for event in events] == ["ResourceNotFoundException"]


def test_a_long_log_arrives_whole(logs: Logs) -> None:
    """In pieces, in order, each line once."""
    logs.write(*(f"{number:06d} " + "x" * 200 for number in range(5000)))
    logs.end()
    with logs.follow() as (_, events):
        numbers = [int(event.data.split(" | ")[1][:6]) for event in events if " build | " in event.data]
    assert numbers == list(range(5000))


@settings(max_examples=30, deadline=None)
@given(text=st.text(min_size=1, max_size=40))
def test_no_text_of_a_build_breaks_out_of_its_event(text: str) -> None:
    """Whatever a build prints, each event is one line of its log, and nothing else is an event."""
    with tempfile.TemporaryDirectory() as folder:
        log = BuildLog(Path(folder) / "a.log", lambda: datetime(2026, 11, 23, 12, tzinfo=UTC))
        receive, flush = log.sink("build")
        receive("stdout", text.encode(errors="replace"))
        flush()
        log.close()
        for _, line in LogReader(Path(folder) / "a.log").read():
            assert not {"\r", "\n"} & set(line) and line.startswith("2026-11-23T12:00:00.000Z build | ")
