"""Short changes: answered together, each with its own outcome, none told to be done that is not."""

from __future__ import annotations

import asyncio
import json
import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from imagesmith.resources.dispatch import Caller, NotNow
from imagesmith.resources.errors import invalid_request, unavailable
from imagesmith.wire.lane import WriteLane
from imagesmith.wire.messages import Request, Response
from imagesmith.wire.model import Api
from imagesmith.wire.service import Pace, Service
from imagesmith.wire.signature import Trusting
from wire.wire_support import ACCOUNT, PIPELINE_ARN, REGION, Recorder

UPDATE = "UpdateImagePipeline"


class Locked(AbstractContextManager[None]):
    """Never begins."""

    def __enter__(self) -> None:
        raise NotNow

    def __exit__(self, *_: object) -> None:
        raise AssertionError


def update(name: str) -> Request:
    members = {
        "imagePipelineArn": PIPELINE_ARN,
        "infrastructureConfigurationArn": PIPELINE_ARN.replace("image-pipeline", "infrastructure-configuration"),
        "description": name,
        "clientToken": str(uuid.uuid4()),
    }
    return Request("PUT", "/UpdateImagePipeline", "", {}, json.dumps(members).encode())


def service_of(api: Api, dispatcher: Recorder) -> Service:
    return Service(
        dispatcher,
        Trusting(account=ACCOUNT, region=REGION, partition="aws"),
        api=api,
        ids=lambda: str(uuid.uuid4()),
        partition="aws",
        body_limit=1024,
    )


def refusing_bad(_operation: str, _caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
    if request["description"] == "bad":
        raise invalid_request("no")
    return {"imagePipelineArn": request["imagePipelineArn"]}


def test_each_of_several_changes_has_its_own_outcome(api: Api) -> None:
    """One that is refused does not touch the others."""
    dispatcher = Recorder(frozenset(api.operations), refusing_bad, short_changes=frozenset({UPDATE}))
    service = service_of(api, dispatcher)
    responses = service.answer_together([update("one"), update("bad"), update("two")])
    assert responses is not None and [response.status for response in responses] == [200, 400, 200]


def test_a_commit_that_fails_is_told_to_all_who_wrote(api: Api) -> None:
    """Answers of success become 503, a refusal stays what it was."""

    @contextmanager
    def failing() -> Iterator[None]:
        yield
        raise unavailable("The database is not available. Try again later.")

    dispatcher = Recorder(
        frozenset(api.operations), refusing_bad, short_changes=frozenset({UPDATE}), together=failing
    )
    responses = service_of(api, dispatcher).answer_together([update("one"), update("bad"), update("two")])
    assert responses is not None and [response.error for response in responses] == [
        "ServiceUnavailableException", "InvalidRequestException", "ServiceUnavailableException",
    ]  # fmt: skip


def test_a_turn_that_does_not_come_is_no_answer(api: Api) -> None:
    """When nothing could begin, nothing was called and each request goes its own way."""
    dispatcher = Recorder(frozenset(api.operations), short_changes=frozenset({UPDATE}), together=Locked)
    assert service_of(api, dispatcher).answer_together([update("one"), update("two")]) is None
    assert dispatcher.request is None


def test_a_request_is_answered_at_its_pace(api: Api) -> None:
    """Short reads at once, short changes together, and everything that is not named in a thread."""
    get = "GetImagePipeline"
    dispatcher = Recorder(
        frozenset(api.operations), short_reads=frozenset({get}), short_changes=frozenset({UPDATE})
    )
    service = service_of(api, dispatcher)
    assert service.pace(update("one")) is Pace.TOGETHER
    assert service.pace(Request("GET", f"/{get}", "", {}, b"")) is Pace.AT_ONCE
    for method, path in (("PUT", "/CreateComponent"), ("PUT", "/nothing"), ("GET", "/UpdateImagePipeline")):
        assert service.pace(Request(method, path, "", {}, b"")) is Pace.LONG


def test_what_comes_meanwhile_is_answered_together_and_in_order() -> None:
    """Requests join the answer that is being made, at most 32 of them; each gets its own response."""
    batches: list[int] = []
    begun, go_on = threading.Event(), threading.Event()

    def answer(requests: Iterable[Request]) -> list[Response]:
        responses = []
        for request in requests:
            responses.append(Response(200, request.body, ""))
            begun.set()
            assert go_on.wait(30)
        batches.append(len(responses))
        return responses

    async def ask() -> list[bytes]:
        futures = [lane.submit(Request("PUT", "/x", "", {}, b"first"))]
        await asyncio.to_thread(begun.wait, 30)
        futures += [lane.submit(Request("PUT", "/x", "", {}, b"%d" % number)) for number in range(40)]
        go_on.set()
        return [answer.body for future in futures if (answer := await future)]

    lane = WriteLane(answer)
    assert asyncio.run(ask()) == [b"first", *(b"%d" % number for number in range(40))]
    lane.close()
    assert batches == [32, 9]


def test_what_cannot_be_answered_together_is_given_back() -> None:
    """When others are at work nothing is answered, and who asked is told so."""

    async def ask() -> list[Response | None]:
        futures = [lane.submit(Request("PUT", "/x", "", {}, b"")) for _ in range(3)]
        return [await future for future in futures]

    lane = WriteLane(lambda _requests: None)
    assert asyncio.run(ask()) == [None] * 3
    lane.close()


def test_an_answer_that_cannot_be_made_ends_no_lane() -> None:
    """Who asked is told, and the next request is answered."""
    calls = 0

    def answer(requests: Iterable[Request]) -> list[Response]:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("a fault")
        return [Response(200, b"", "") for _ in requests]

    async def ask() -> int:
        with pytest.raises(RuntimeError):
            await lane.submit(Request("PUT", "/x", "", {}, b""))
        answer = await lane.submit(Request("PUT", "/x", "", {}, b""))
        return answer.status if answer else 0

    lane = WriteLane(answer)
    assert asyncio.run(ask()) == 200
    lane.close()


def test_closing_answers_what_waits() -> None:
    """No request is left without an answer, and no thread stays."""

    async def ask() -> list[int]:
        futures = [lane.submit(Request("PUT", "/x", "", {}, b"")) for _ in range(3)]
        await asyncio.to_thread(lane.close)
        return [answer.status for future in futures if (answer := await future)]

    lane = WriteLane(lambda requests: [Response(200, b"", "") for _ in requests])
    assert asyncio.run(ask()) == [200, 200, 200]
    assert "changes" not in [thread.name for thread in threading.enumerate()]
