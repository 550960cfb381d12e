"""Values in the notation of Docker's own language: durations, ports, signals, sizes, platforms. Pure."""

from __future__ import annotations

import re
import signal
from typing import Final

_DURATION: Final = re.compile(r"[-+]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+\Z", re.ASCII)
_PART: Final = re.compile(r"([0-9]*)\.?([0-9]*)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_UNITS: Final = {
    "ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9,
}  # fmt: skip
_MAX_DURATION: Final = 2**63 - 1
_MAX_TEXT: Final = 80
_PORTS: Final = re.compile(r"([0-9]+)(?:-([0-9]+))?\Z", re.ASCII)
_PROTOCOLS: Final = ("tcp", "udp", "sctp")
_SIZE: Final = re.compile(r"[0-9]+(?:\.[0-9]+)* ?[kKmMgGtTpP]?[iI]?[bB]?\Z", re.ASCII)
_PLATFORM: Final = re.compile(r"[A-Za-z0-9_-]+(?:\([A-Za-z0-9_.-]+\))?(?:/[A-Za-z0-9_.-]+){0,2}\Z", re.ASCII)
_SYSTEMS: Final = ("linux", "windows", "darwin", "freebsd")
_ARCHITECTURES: Final = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armhf": "arm", "i386": "386"}
_REALTIME: Final = {f"RTMIN+{number}" for number in range(1, 16)} | {f"RTMAX-{number}" for number in range(1, 15)}
_SIGNALS: Final = frozenset({name.removeprefix("SIG") for name in signal.Signals.__members__} | _REALTIME)


def nanoseconds(text: str) -> int | None:
    """A duration like `1m30s`; None when it is none."""
    if text in ("0", "+0", "-0"):
        return 0
    if len(text) > _MAX_TEXT or not _DURATION.match(text):
        return None
    total = 0
    for whole, fraction, unit in _PART.findall(text):
        total += int(whole or "0") * _UNITS[unit] + int(fraction or "0") * _UNITS[unit] // 10 ** len(fraction)
    return None if total > _MAX_DURATION else -total if text.startswith("-") else total


def port_problem(text: str) -> str:
    """Why a text is no port of EXPOSE: `[[address:]host:]port[-port][/protocol]`; empty when it is one."""
    ports, slash, protocol = text.partition("/")
    if slash and protocol.lower() not in _PROTOCOLS:
        return f"'{protocol[:40]}' is not a protocol; use tcp, udp or sctp"
    host, _, container = ports.rpartition(":")
    inside = _port_range(container)
    if inside is None:
        return f"'{container[:40]}' is neither a port nor a range of ports from 0 to 65535"
    outside = _port_range(host.rpartition(":")[2]) if host.rpartition(":")[2] else inside
    if outside is None:
        return f"'{host[:40]}' is not a port of the host"
    if inside[0] != inside[1] and outside[1] - outside[0] != inside[1] - inside[0]:
        return "its two ranges differ in length"
    return ""


def is_signal(text: str) -> bool:
    if re.fullmatch(r"[-+]?[0-9]{1,9}", text, re.ASCII):
        return int(text) != 0
    return text.upper().removeprefix("SIG") in _SIGNALS


def is_size(text: str) -> bool:
    return _SIZE.match(text) is not None


def byte_count(text: str) -> int:
    """The bytes of a size that is_size() accepts, like `64m`."""
    found = re.match(r"([0-9]+)(?:\.([0-9]*))?[0-9.]* ?([kKmMgGtTpP]?)", text)
    assert found is not None
    factor: int = 1024 ** " kmgtp".index(found[3].lower() or " ")
    fraction = (found[2] or "")[:9]
    whole, part = int(found[1][:18]), int(fraction or "0")
    return min(whole * factor + part * factor // int("1" + "0" * len(fraction)), 2**62)


def is_platform(text: str) -> bool:
    return _PLATFORM.match(text) is not None


def _port_range(text: str) -> tuple[int, int] | None:
    found = _PORTS.match(text)
    if not found or len(text) > _MAX_TEXT:
        return None
    first, last = int(found[1]), int(found[2] or found[1])
    return (first, last) if first <= last <= 65535 else None


def normal_platform(text: str) -> str:
    """A platform as Docker writes it: `linux/amd64` for `x86_64`, `linux` and `linux/amd64/v1` as well."""
    words = text.lower().split("/")
    if len(words) == 1:
        words = ["linux", *words] if words[0] not in _SYSTEMS else [words[0], "amd64"]
    architecture = _ARCHITECTURES.get(words[1], words[1])
    variant = words[2:] if words[2:] not in (["v1"], ["v8"]) else []
    return "/".join([words[0], architecture, *variant])
