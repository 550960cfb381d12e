"""What follows a commit of the clock is told by its name when it fails, and fails nothing else."""

from __future__ import annotations

import pytest

from imagesmith.resources.call import Effect, EffectKind, carry_out
from imagesmith.schedule.effects import Effects


def failing(error: Exception | None = None) -> None:
    raise error or PermissionError("logs/web")


@pytest.mark.parametrize("kind", EffectKind)
def test_what_fails_is_told_by_its_name(kind: EffectKind, caplog: pytest.LogCaptureFixture) -> None:
    """With the kind and the subject, once, and not as a build that could not be enqueued."""
    done: list[str] = []
    effects = Effects()
    effects.begin([Effect(kind, "arn:web", failing), Effect(kind, "arn:other", lambda: done.append("other"))])
    effects.finish()
    for _ in range(3):
        effects.retry()
    assert done == ["other"]
    assert caplog.text.count(f"{kind} arn:web failed; it is retried at the next tick") == 1
    assert ("enqueued" in caplog.text) is False


def test_a_line_of_a_log_is_given_up_and_a_build_is_not(caplog: pytest.LogCaptureFixture) -> None:
    """After ten tries; the start of a build goes on being tried, and its success is told."""
    broken = [True]
    started: list[str] = []

    def start() -> None:
        if broken:
            failing()
        started.append("build")

    effects = Effects()
    effects.begin(
        [Effect(EffectKind.PIPELINE_LOG, "arn:web", failing), Effect(EffectKind.START, "arn:image", start)]
    )
    effects.finish()
    for _ in range(20):
        effects.retry()
    assert caplog.text.count("a line of the log of arn:web failed 10 times and is not retried") == 1
    broken.clear()
    effects.retry()
    effects.retry()
    assert started == ["build"]
    assert "the start of arn:image succeeded" in caplog.text


def test_a_call_is_not_failed_by_a_log(caplog: pytest.LogCaptureFixture) -> None:
    """A committed call whose log line is lost succeeds; another effect's failure is raised when all were done."""
    done: list[str] = []
    carry_out(
        [Effect(EffectKind.PIPELINE_LOG, "web", failing), Effect(EffectKind.START, "a", lambda: done.append("a"))]
    )
    assert done == ["a"] and "a line of the log of web failed" in caplog.text
    with pytest.raises(PermissionError):
        carry_out(
            [Effect(EffectKind.START, "a", failing), Effect(EffectKind.CANCEL, "b", lambda: done.append("b"))]
        )
    assert done == ["a", "b"]
