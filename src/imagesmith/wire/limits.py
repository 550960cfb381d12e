"""Bounds of the front door: bytes, seconds and counts of requests."""

from __future__ import annotations

from dataclasses import dataclass

from imagesmith.wire.log_streams import StreamLimits


@dataclass(frozen=True)
class HttpLimits:
    """Bounds of the front door: bytes, seconds and counts."""

    body_bytes: int = 1024 * 1024
    drain_bytes: int = 32 * 1024 * 1024
    """Bytes of an oversized body that are read and discarded before the connection is closed instead."""
    body_seconds: float = 30.0
    """Longest time in which a body must arrive."""
    refused_seconds: float = 10.0
    """How long the client of a refused request may continue to send its body."""
    refused_at_once_seconds: float = 0.25
    """How long the answer waits for the body to end, so that the connection can stay open."""
    threads: int = 16
    requests: int = 512
    """Requests that wait or run at one time; the next one is answered 503 with Retry-After."""
    requests_per_peer: int = 384
    bodies: int = 512
    """Bodies that are read at one time; one more ends the oldest body of the peer that has the most."""
    bodies_per_peer: int = 256
    streams: StreamLimits = StreamLimits()  # noqa: RUF009 (frozen)
