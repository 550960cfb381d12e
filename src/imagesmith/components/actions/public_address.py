"""Checks the addresses that a document lets the worker connect to, and connects to exactly these.

    name --resolve--> every address --any of the worker's own, of its link, of no machine?--> refused as a whole
                                    --> a connection to a checked address; the name is not resolved again

A name with one refused address is refused although it has others: its owner would choose the moment. All refusals
have the same text and precede any packet, so that they reveal nothing about listening services.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from typing import Any, Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

REFUSAL: Final = "addresses of the worker itself and of its link are refused"

_REFUSED: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4",
        "::/128", "::1/128", "fe80::/10", "fec0::/10", "ff00::/8",
        "fd00:ec2::/32", "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32",
    )
)  # fmt: skip
"""This machine, its link, addresses of no machine, and metadata services of clouds beyond the link. Private
networks are not among them: they contain mirrors."""

_EMBEDDING: Final = tuple(
    ipaddress.IPv6Network(text) for text in ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48")
)
"""IPv6 networks whose addresses lead to the IPv4 address in them: compatible, translated, NAT64."""


class AddressRefused(OSError):
    """Raised before any connection is tried; the text is always the same."""


def resolve(host: str, port: int) -> list[tuple[socket.AddressFamily, Any]]:
    """Family and socket address of every address of a host; all of them are allowed.

    Raises AddressRefused, and OSError for a name without an address.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError(f"{host[:80]!r} is not a host name") from error
    if any(is_refused(str(endpoint[0])) for *_, endpoint in found):
        raise AddressRefused(REFUSAL)
    return [(family, endpoint) for family, _, _, _, endpoint in found]


def connect(host: str, port: int, timeout: float | None) -> socket.socket:
    """A connection to one of the addresses that resolve() returns. Raises AddressRefused, OSError."""
    trouble: OSError | None = None
    for family, endpoint in resolve(host, port):
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout)
            connection.connect(endpoint)
        except OSError as error:
            connection.close()
            trouble = error
        else:
            return connection
    raise trouble or OSError(f"{host} has no address")


def is_refused(text: str) -> bool:
    """Whether an address belongs to this machine, its link, or no machine at all."""
    address = ipaddress.ip_address(text.partition("%")[0])
    return any(
        any(candidate in network for network in _REFUSED if network.version == candidate.version)
        or _is_own(candidate)
        for candidate in (address, *_embedded(address))
    )


def _is_own(address: Address) -> bool:
    """Whether packets to an address stay on this machine, by its routes and without sending one."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((str(address), 9))
        return ipaddress.ip_address(str(probe.getsockname()[0]).partition("%")[0]) == address
    return False


def _embedded(address: Address) -> list[Address]:
    """The IPv4 addresses embedded in an IPv6 address."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found: list[Address] = [address.ipv4_mapped] if address.ipv4_mapped else []
    if address.sixtofour:
        found.append(address.sixtofour)
    if address.teredo:
        found += address.teredo
    if any(address in network for network in _EMBEDDING):
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return found
