"""The handshake of a TLS connection: counted and limited in time like all that a client can leave undone.

    accepted --slot of the peer--> handshake --done--> the connection of connection.py, over the decrypted stream
                   |                   '--late, or broken--> closed
                   '--none--> closed

asyncio can do the handshake by itself, but then a client that never sends a byte holds a descriptor that no limit
counts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from imagesmith.wire.peers import PeerSlots, peer_of
from imagesmith.wire.tls import ServerCertificate

_log = logging.getLogger(__name__)

HANDSHAKE_SECONDS: Final = 10.0


class TlsDoors:
    """The handshakes that are under way. Used in the event loop only."""

    def __init__(self, certificate: ServerCertificate, slots: PeerSlots) -> None:
        self.certificate = certificate
        self._slots = slots
        self._open: set[_TlsDoor] = set()

    def door(self, make_protocol: Callable[[], asyncio.Protocol]) -> asyncio.Protocol:
        """The protocol of an accepted connection; `make_protocol` is called after its handshake."""
        return _TlsDoor(self, make_protocol, self._slots, self._open)

    def close(self) -> None:
        """End the handshakes that are under way: a stop does not wait for them."""
        for door in tuple(self._open):
            door.abort()


class _Handshake(asyncio.Protocol):
    """What is behind the TLS of a connection whose handshake is under way: nothing yet."""


class _TlsDoor(asyncio.Protocol):
    """One accepted connection until its handshake is done."""

    def __init__(
        self,
        doors: TlsDoors,
        make_protocol: Callable[[], asyncio.Protocol],
        slots: PeerSlots,
        under_way: set[_TlsDoor],
    ) -> None:
        self._doors = doors
        self._make_protocol = make_protocol
        self._slots = slots
        self._under_way = under_way
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self._early: list[bytes] = []
        """What the client sent before the task of the handshake ran."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's is not derived from asyncio's
        address = transport.get_extra_info("peername")
        peer = peer_of(address[0]) if address else ""
        slot = self._slots.enter(peer, self.abort)
        if slot is None:
            self.abort()
            return
        self._under_way.add(self)
        # kept: the loop holds its tasks by weak references
        self._task = asyncio.get_running_loop().create_task(self._shake_hands(peer, slot))

    def data_received(self, data: bytes) -> None:
        self._early.append(data)

    def abort(self) -> bool:
        """Close the connection; its slot is free again."""
        if self._transport is not None:
            self._transport.abort()
        if self._task is not None:
            self._task.cancel()
        return True

    async def _shake_hands(self, peer: str, slot: int) -> None:
        loop = asyncio.get_running_loop()
        assert self._transport is not None
        # in the next turn of the loop, when start_tls() has set its protocol and has paused the reading
        loop.call_soon(self._pass_on, self._transport)
        try:
            secured = await loop.start_tls(
                self._transport, _Handshake(), self._doors.certificate.context, server_side=True,
                ssl_handshake_timeout=HANDSHAKE_SECONDS,
            )  # fmt: skip
        except (OSError, asyncio.CancelledError) as error:  # ssl.SSLError and TimeoutError are OSErrors
            _log.debug("the TLS handshake of %s failed: %r", peer, error)
            self._transport.abort()
            return
        finally:
            self._under_way.discard(self)
            self._slots.leave(peer, slot)
        if secured is None:
            return
        # in this turn of the loop: the first data of the client is delivered in the next
        protocol = self._make_protocol()
        secured.set_protocol(protocol)
        protocol.connection_made(secured)

    def _pass_on(self, transport: asyncio.Transport) -> None:
        """Hand over what came early to the protocol of the handshake, which reads it once it starts."""
        protocol: Any = transport.get_protocol()
        if protocol is self:
            return  # the connection was closed meanwhile
        for data in self._early:
            rest = memoryview(data)
            while rest:
                room = protocol.get_buffer(len(rest))
                size = min(len(room), len(rest))
                room[:size] = rest[:size]
                protocol.buffer_updated(size)
                rest = rest[size:]
        self._early.clear()
