"""Short changes: answered together, each with its own outcome, none told to be done that is not."""

from __future__ import annotations

import asyncio
import json
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from imagesmith.resources.dispatch import Caller
from imagesmith.resources.errors import invalid_request, unavailable
from imagesmith.wire.messages import Request, Response
from imagesmith.wire.model import Api
from imagesmith.wire.service import ApiService, ExecutionMode
from imagesmith.wire.signature import Trusting
from imagesmith.wire.write_batcher import Batch, WriteBatcher
from testing.wire_support import ACCOUNT, PIPELINE_ARN, REGION, Clock, Recorder

UPDATE = "UpdateImagePipeline"


def update(name: str) -> Request:
    members = {
        "imagePipelineArn": PIPELINE_ARN,
        "infrastructureConfigurationArn": PIPELINE_ARN.replace("image-pipeline", "infrastructure-configuration"),
        "description": name,
        "clientToken": str(uuid.uuid4()),
    }
    return Request("PUT", "/UpdateImagePipeline", "", {}, json.dumps(members).encode())


def service_of(api: Api, dispatcher: Recorder) -> ApiService:
    return ApiService(
        dispatcher,
        Trusting(account=ACCOUNT, region=REGION, partition="aws"),
        api=api,
        clock=Clock(),
        ids=lambda: str(uuid.uuid4()),
        partition="aws",
        body_limit=1024,
    )


def refusing_bad(_operation: str, _caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
    if request["description"] == "bad":
        raise invalid_request("no")
    return {"imagePipelineArn": request["imagePipelineArn"]}


def answered(service: ApiService, *names: str) -> list[Response]:
    batch = service.begin_batch(patience=0)
    assert batch is not None
    batch.answer([update(name) for name in names])
    return batch.end()


def test_each_of_several_changes_has_its_own_outcome(api: Api) -> None:
    """One that is refused does not touch the others."""
    dispatcher = Recorder(frozenset(api.operations), refusing_bad, short_changes=frozenset({UPDATE}))
    responses = answered(service_of(api, dispatcher), "one", "bad", "two")
    assert [response.status for response in responses] == [200, 400, 200]


def test_a_commit_that_fails_is_told_to_all_who_wrote(api: Api) -> None:
    """Answers of success become 503, a refusal stays what it was."""

    def fail() -> None:
        raise unavailable("The database is not available. Try again later.")

    dispatcher = Recorder(frozenset(api.operations), refusing_bad, short_changes=frozenset({UPDATE}), commit=fail)
    assert [response.error for response in answered(service_of(api, dispatcher), "one", "bad", "two")] == [
        "ServiceUnavailableException", "InvalidRequestException", "ServiceUnavailableException",
    ]  # fmt: skip


def test_a_turn_that_does_not_come_is_no_answer(api: Api) -> None:
    """When nothing could begin, nothing was called and each request goes its own way."""
    dispatcher = Recorder(frozenset(api.operations), short_changes=frozenset({UPDATE}), free=False)
    assert service_of(api, dispatcher).begin_batch(patience=0) is None
    assert dispatcher.request is None


def test_a_request_is_answered_at_its_pace(api: Api) -> None:
    """Short reads at once, short changes together, and everything that is not named in a thread."""
    get = "GetImagePipeline"
    dispatcher = Recorder(
        frozenset(api.operations), short_reads=frozenset({get}), short_changes=frozenset({UPDATE})
    )
    service = service_of(api, dispatcher)
    assert service.execution_mode(update("one")) is ExecutionMode.BATCHED
    assert service.execution_mode(Request("GET", f"/{get}", "", {}, b"")) is ExecutionMode.INLINE
    for method, path in (("PUT", "/CreateComponent"), ("PUT", "/nothing"), ("GET", "/UpdateImagePipeline")):
        assert service.execution_mode(Request(method, path, "", {}, b"")) is ExecutionMode.THREADED


@dataclass
class Echo:
    """A batch that answers with the bodies, and whose end waits until it may come."""

    go_on: threading.Event
    responses: list[Response] = field(default_factory=list)
    ended_by: str = ""

    def answer(self, requests: Iterable[Request]) -> None:
        self.responses += [Response(200, request.body, "") for request in requests]

    def end(self) -> list[Response]:
        assert self.go_on.wait(30)
        self.ended_by = threading.current_thread().name
        return self.responses


FAULT = Response(500, b"", "", error="ServiceException")


def lane_of(begin: Callable[[float], Batch | None]) -> WriteBatcher:
    return WriteBatcher(lambda *, patience: begin(patience), lambda: FAULT)


async def ask(lane: WriteBatcher, *bodies: bytes) -> Sequence[Response | None]:
    loop = asyncio.get_running_loop()
    futures: list[asyncio.Future[Response | None]] = [loop.create_future() for _ in bodies]
    for body, future in zip(bodies, futures, strict=True):
        lane.submit(Request("PUT", "/x", "", {}, body), future.set_result)
    return await asyncio.gather(*futures)


def test_what_waits_is_answered_together_and_in_order() -> None:
    """Requests that come while a commit is under way share the next ones, at most 32 each."""
    batches: list[Echo] = []
    go_on = threading.Event()

    def begin(_patience: float) -> Echo:
        batches.append(Echo(go_on))
        return batches[-1]

    async def scene() -> list[bytes]:
        first = asyncio.create_task(ask(lane, b"first"))
        while not batches:
            await asyncio.sleep(0)
        rest = asyncio.create_task(ask(lane, *(b"%d" % number for number in range(40))))
        await asyncio.sleep(0)
        go_on.set()
        return [answer.body for answer in [*await first, *await rest] if answer]

    lane = lane_of(begin)
    assert asyncio.run(scene()) == [b"first", *(b"%d" % number for number in range(40))]
    lane.close()
    assert [len(batch.responses) for batch in batches] == [1, 32, 8]
    assert {batch.ended_by.rpartition("_")[0] for batch in batches} == {"changes"}


def test_the_loop_goes_on_while_a_commit_is_under_way() -> None:
    """Nothing that is read meanwhile waits for the disk."""
    go_on = threading.Event()

    async def scene() -> Sequence[Response | None]:
        asked = asyncio.create_task(ask(lane, b"x"))
        await asyncio.sleep(0.01)
        assert not asked.done()
        go_on.set()
        return await asked

    lane = lane_of(lambda _patience: Echo(go_on))
    assert asyncio.run(scene()) == [Response(200, b"x", "")]
    lane.close()


def test_a_turn_that_others_have_is_waited_for_in_the_thread() -> None:
    """The event loop tries once; the thread waits, and answers what came meanwhile."""
    go_on = threading.Event()
    go_on.set()
    tried: list[tuple[str, float]] = []

    def begin(patience: float) -> Echo | None:
        tried.append((threading.current_thread().name.partition("_")[0], patience))
        return Echo(go_on) if patience else None

    lane = lane_of(begin)
    assert asyncio.run(ask(lane, b"a", b"b")) == [Response(200, b"a", ""), Response(200, b"b", "")]
    lane.close()
    assert [(name == "changes", patience > 0) for name, patience in tried] == [(False, False), (True, True)]


def test_what_cannot_be_answered_together_is_given_back() -> None:
    """When others are at work nothing is answered, and who asked is told so."""
    lane = lane_of(lambda _patience: None)
    assert asyncio.run(ask(lane, b"", b"", b"")) == [None] * 3
    lane.close()


def test_an_answer_that_cannot_be_made_ends_no_lane() -> None:
    """Who asked is told of the fault, and the next request is answered."""
    go_on = threading.Event()
    go_on.set()
    batches: list[Echo] = []

    class Broken(Echo):
        def end(self) -> list[Response]:
            raise RuntimeError("a fault")

    def begin(_patience: float) -> Echo:
        batches.append(Echo(go_on) if batches else Broken(go_on))
        return batches[-1]

    async def scene() -> list[Response | None]:
        return [*await ask(lane, b"a", b"b"), *await ask(lane, b"c")]

    lane = lane_of(begin)
    assert asyncio.run(scene()) == [FAULT, FAULT, Response(200, b"c", "")]
    lane.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("changes")]
