"""The words that start a program in namespaces of other processes."""

from __future__ import annotations

from pathlib import Path


def entering(**namespaces: Path | str) -> tuple[str, ...]:
    """The beginning of an argv: `nsenter`, with what stands for each namespace in /proc, by nsenter's option.

    entering(net=Path("/proc/7/ns/net"))  ->  nsenter --net=/proc/7/ns/net --
    """
    return ("nsenter", *(f"--{option}={path}" for option, path in namespaces.items()), "--")
