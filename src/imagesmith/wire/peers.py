"""Slots counted by peer, so that slow or unfinished requests of one peer do not block another.

A peer is an address; for IPv6 its /64, all of which one host may own.

    enter --> a slot is free -------------------------------> held --leave--> free
         \\-> none is: the oldest of the peer that holds the most is ended for it
          \\-> which cannot be ended: refused

A slot that waits for its peer (an idle connection, half a head, half a body) can be ended at any time, and the
client sends its request again on another connection. So a newcomer is admitted at the cost of the peer with the
most slots, even its own: clients that finish what they send are not blocked by those that do not, even at the same
address.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache

End = Callable[[], bool]
"""Ends the holder of a slot; False: it is working and stays. Must not leave() by itself before it returns."""


@lru_cache(maxsize=4096)
def peer_of(address: str) -> str:
    """The peer of a connection's address; a Unix socket has no address and is one peer."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, 64), strict=False))


class PeerSlots:
    """`most` slots in all, `most_per_peer` of them for one peer. Used in the event loop only."""

    def __init__(self, most: int, most_per_peer: int) -> None:
        self._most = most
        self._most_per_peer = most_per_peer
        self._held: dict[str, OrderedDict[int, End]] = {}
        self._total = 0
        self._next = 0

    def enter(self, peer: str, end: End) -> int | None:
        """Take a slot and return its number for leave(); None: all holders are working."""
        if len(self._held.get(peer, ())) >= self._most_per_peer and not self._end_one_of(peer):
            return None
        if self._total >= self._most:
            by_count = sorted(self._held, key=lambda name: len(self._held[name]), reverse=True)
            if not any(self._end_one_of(name) for name in by_count):
                return None
        self._next += 1
        self._held.setdefault(peer, OrderedDict())[self._next] = end
        self._total += 1
        return self._next

    def leave(self, peer: str, number: int) -> None:
        """Free a slot; an ended one is already free."""
        held = self._held.get(peer)
        if held is None or held.pop(number, None) is None:
            return
        self._total -= 1
        if not held:
            del self._held[peer]

    def _end_one_of(self, peer: str) -> bool:
        for number, end in list(self._held[peer].items()):
            if end():
                self.leave(peer, number)
                return True
        return False

    def __len__(self) -> int:
        return self._total
