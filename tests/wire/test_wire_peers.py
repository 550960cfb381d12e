"""One peer's unfinished requests cost no other request its turn, whatever form they have."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import uuid
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagesmith.accounts.keys import AccessKey, KeyRing
from imagesmith.wire import server
from imagesmith.wire.create import create_app
from imagesmith.wire.limits import HttpLimits
from imagesmith.wire.log_streams import StreamLimits
from imagesmith.wire.model import Api
from imagesmith.wire.peers import PeerSlots, peer_of
from imagesmith.wire.server import running
from testing.wire_support import KEY, Clock, Recorder, Wire, settings_for

MANY = 60
"""Connections of an attack; more than there are slots of any kind."""


@pytest.fixture
def small(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """A server that verifies signatures, with few slots of every kind and deadlines that no test waits for."""
    monkeypatch.setattr(server, "_connection_slots", lambda: PeerSlots(50, 40))
    dispatcher, clock = Recorder(frozenset(api.operations)), Clock()
    app = create_app(
        dispatcher, keys=KeyRing([KEY]), settings=settings_for(tmp_path), clock=clock,
        ids=lambda: str(uuid.uuid4()), api=api,
        limits=HttpLimits(body_seconds=600, refused_seconds=600, requests=16, bodies=16, bodies_per_peer=12,
                      streams=StreamLimits(streams=8, streams_per_peer=4)),
    )  # fmt: skip
    with running(app) as url:
        wire = Wire(url, api, dispatcher, clock)
        yield wire
        wire.close()
    app.close()


def beginning(wire: Wire, kind: str) -> bytes:
    """What a client sends and never ends."""
    lines = ["PUT /UpdateImagePipeline HTTP/1.1"]
    headers: dict[str, str] = {}
    length = "Content-Length: 100"
    sign = partial(wire.sign, "PUT", "/UpdateImagePipeline")
    match kind:
        case "idle":
            return b""
        case "half a head":
            return b"PUT /UpdateImagePipeline HTTP/1.1\r\nHost: x\r\nX-Half: "
        case "unsigned":
            headers = {"Host": "x"}
        case "malformed":
            headers = {"Host": "x", "Authorization": "AWS4-HMAC-SHA256 Credential=a/b"}
        case "another scheme":
            headers = {"Host": "x", "Authorization": "Bearer abc"}
        case "unknown key":
            headers = sign(key=AccessKey("AKIAUNKNOWN000000001", "x" * 40, KEY.account, "a"))
        case "another service":
            headers = sign(service="s3")
        case "old":
            wire.clock.offset = timedelta(hours=1)
            headers = sign()
        case "announced and not signed right":
            headers = sign(headers={"X-Amz-Content-SHA256": "0" * 64})
            headers["Authorization"] = headers["Authorization"][:-64] + "0" * 64
        case "an unsigned payload announced":
            headers = sign(headers={"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"})
        case "too long":
            headers, length = sign(), "Content-Length: 99999999999"
        case "signed, half a body":
            headers = sign()
        case "signed, chunks without end":
            headers, length = sign(), "Transfer-Encoding: chunked"
        case "an unsigned stream":
            return b"GET /logs/image?imageBuildVersionArn=x HTTP/1.1\r\nHost: x\r\n\r\n"
        case "pipelined":
            return b"GET /GetImage HTTP/1.1\r\nHost: x\r\n\r\n" * 50 + b"GET /Ge"
        case _:
            raise AssertionError(kind)
    if "Host" not in headers:
        lines.append(f"Host: {urlsplit(wire.url).netloc}")
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join([*lines, length, "", ""])).encode() + (b"5\r\nhello" if "chunk" in length else b"{")


REFUSED = [
    "unsigned", "malformed", "another scheme", "unknown key", "another service", "old",
    "announced and not signed right", "an unsigned payload announced", "too long",
]  # fmt: skip
UNFINISHED = [
    "idle", "half a head", "signed, half a body", "signed, chunks without end", "an unsigned stream", "pipelined",
]  # fmt: skip


@contextlib.contextmanager
def attack(wire: Wire, kind: str, count: int, *, source: str = "127.0.0.1") -> Iterator[list[socket.socket]]:
    data = beginning(wire, kind)
    address = urlsplit(wire.url)
    with contextlib.ExitStack() as stack:
        made = []
        for _ in range(count):
            one = socket.create_connection((address.hostname, address.port), timeout=20, source_address=(source, 0))
            stack.callback(one.close)
            with contextlib.suppress(ConnectionError):
                one.sendall(data)
            made.append(one)
        yield made


def call(wire: Wire, source: str) -> int:
    """A signed call with a body that comes in two pieces, as one that a slot to read is needed for."""
    wire.clock.offset = timedelta()
    address = urlsplit(wire.url)
    body = json.dumps({"maxResults": 3}).encode()
    made = http.client.HTTPConnection(str(address.hostname), address.port, timeout=20, source_address=(source, 0))
    try:
        made.putrequest("POST", "/ListImagePipelines", skip_accept_encoding=True)
        for name, value in wire.sign("POST", "/ListImagePipelines", body).items():
            made.putheader(name, value)
        made.putheader("Content-Length", str(len(body)))
        made.endheaders()
        made.send(body)
        return made.getresponse().status
    finally:
        made.close()


@pytest.mark.parametrize("kind", [*REFUSED, *UNFINISHED])
def test_unfinished_requests_lock_nobody_out(small: Wire, kind: str) -> None:
    """While one peer holds all that it can, signed calls succeed, from that peer's address and from another."""
    with attack(small, kind, MANY):
        assert [call(small, source) for source in ("127.0.0.1", "127.0.0.2") * 3] == [200] * 6


@pytest.mark.parametrize("kind", ["signed, half a body", "half a head"])
def test_peers_together_lock_nobody_out(small: Wire, kind: str) -> None:
    """Nor when several peers hold all slots together."""
    with contextlib.ExitStack() as stack:
        for number in range(2, 8):
            stack.enter_context(attack(small, kind, 20, source=f"127.0.0.{number}"))
        assert [call(small, source) for source in ("127.0.0.1", "127.0.0.9") * 3] == [200] * 6


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_authentic_is_refused_before_its_body(small: Wire, kind: str) -> None:
    """The answer comes although the body never does, and nothing was called."""
    with attack(small, kind, 1) as [made]:
        answer = http.client.HTTPResponse(made)
        answer.begin()
        assert 400 <= answer.status < 500
        assert answer.headers["connection"] == "close"
        assert answer.headers["x-amzn-errortype"] in (
            "MissingAuthenticationTokenException", "IncompleteSignatureException", "UnrecognizedClientException",
            "InvalidSignatureException", "SerializationException",
        )  # fmt: skip
    assert small.dispatcher.operation == ""


def test_a_body_that_made_room_is_told_to_come_back(small: Wire) -> None:
    """The oldest of the peer with the most bodies gets 503."""
    with attack(small, "signed, half a body", 13) as [oldest, *_]:
        answer = http.client.HTTPResponse(oldest)
        answer.begin()
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("127.0.0.1", "127.0.0.2", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("2001:db8::1", "2001:db8:0:0:ffff::2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("", "", True),
    ],
)
def test_a_peer_is_an_address_or_its_64(one: str, other: str, same: bool) -> None:
    """All of an IPv6 /64 is one peer; an IPv4 address is one in either notation."""
    assert (peer_of(one) == peer_of(other)) is same


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans())))
def test_slots_are_never_more_than_allowed(steps: list[tuple[str, bool, bool]]) -> None:
    """Whoever comes, leaves or stays at work: the counts hold, and a newcomer is kept out by work only."""
    slots, held = PeerSlots(5, 3), list[tuple[str, int, bool]]()
    gone = set[int]()
    for peer, leaves, works in steps:
        if leaves and held:
            name, number, _ = held.pop(0)
            slots.leave(name, number)
            continue
        key = len(gone) + len(held) * 1000

        def end(works: bool = works, key: int = key) -> bool:
            if not works:
                gone.add(key)
            return not works

        got = slots.enter(peer, end)
        if got is not None:
            held.append((peer, got, works))
        assert len(slots) <= 5
        assert all(len(of_peer) <= 3 for of_peer in slots._held.values())
    for name, number, _ in held:
        slots.leave(name, number)
    assert len(slots) == 0
