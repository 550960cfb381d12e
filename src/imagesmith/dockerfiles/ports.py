"""The ports that EXPOSE names, as an image keeps them. Pure."""

from __future__ import annotations

from collections.abc import Iterator


def exposed_ports(text: str) -> Iterator[str]:
    """Each port as `80/tcp`; `text` is a port, a range or `host:port` that go_values.port_problem() accepts."""
    protocol = text.partition("/")[2].lower() or "tcp"
    yield from (f"{number}/{protocol}" for number in _numbers(text))


def port_count(text: str) -> int:
    """How many ports a text names."""
    return len(_numbers(text))


def _numbers(text: str) -> range:
    first, _, last = text.partition("/")[0].rpartition(":")[2].partition("-")
    return range(int(first), int(last or first) + 1)
