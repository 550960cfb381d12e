"""What users read when something of the machine fails."""

from __future__ import annotations

import errno

import pytest

from imagesmith.builds.failures import StepFailed, explain, is_disk_full
from imagesmith.processes import Completed, ProcessFailed


def completed(*, returncode: int = 1, stderr: bytes = b"", timed_out: bool = False) -> Completed:
    return Completed(("buildah", "rm", "x y"), returncode, b"", stderr, 0.1, timed_out)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device", "/data/x"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        ProcessFailed(completed(stderr=b"write /data/y: no space left on device")),
    ],
)
def test_a_full_disk_is_named(error: Exception) -> None:
    """Whoever reports it in whatever words: the sentence says that the disk is full and how much is free."""
    assert is_disk_full(error)
    reason = explain(error, "the build stage", free=3_000_000).reason
    assert reason.startswith("the build stage failed: no space is left on the disk (")
    assert "free some and run it again" in reason


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        (completed(returncode=125, stderr=b"bad"), "exit status 125: buildah rm 'x y'\nbad"),
        (completed(returncode=-9), "killed by SIGKILL: buildah rm 'x y'"),
        (completed(timed_out=True), "timed out: buildah rm 'x y'"),
    ],
)
def test_a_tool_that_failed_is_named_with_its_command(ended: Completed, words: str) -> None:
    """How it ended, the command to try by hand, and its last words."""
    reason = explain(ProcessFailed(ended), "the test stage", free=0).reason
    assert reason == f"the test stage failed: {words}"


def test_a_failed_stage_is_not_explained_again() -> None:
    """What a stage says itself stays as it is."""
    failed = StepFailed("because", {"a": 1})
    assert explain(failed, "anything", free=0) is failed
