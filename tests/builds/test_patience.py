"""How a run waits for its database: what it tells, when it stops, and that its time limits stand still."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.engine import Connection

from imagesmith.builds.deadline import DeadlinePassed, limited
from imagesmith.builds.failures import explain
from imagesmith.builds.patience import RunPatience
from imagesmith.processes import Cancellation, Cancelled
from imagesmith.store.database import Database
from imagesmith.store.outage import StoreAway, StoreBusy, StoreDamaged, StoreFull, StoreUnavailable


class Stopped(BaseException):
    """There is nothing to wait for any more."""


def test_an_outage_is_told_once_and_so_is_its_end() -> None:
    """However often it is waited for; the next one is told again."""
    said: list[str] = []
    patience = RunPatience(lambda: None, said.append)
    patience.over()
    for _ in range(2):
        for _ in range(3):
            patience.wait(StoreUnavailable("away"))
            assert patience.is_waiting
        patience.over()
        assert not patience.is_waiting
    assert [line.partition(";")[0].partition(",")[0] for line in said] == [
        "the database does not answer", "the database answers again",
    ] * 2  # fmt: skip


def test_a_log_that_cannot_be_written_does_not_end_the_wait() -> None:
    """The disk that is full may be that of the log."""

    def say(line: str) -> None:
        raise OSError(28, "No space left on device")

    patience = RunPatience(lambda: None, say)
    patience.wait(StoreFull("full"))
    patience.over()


def test_a_wait_ends_with_what_its_pause_raises() -> None:
    """The process stops, or another one goes on with the run."""

    def pause() -> None:
        raise Stopped

    with pytest.raises(Stopped):
        RunPatience(pause, lambda line: None).wait(StoreUnavailable("away"))


def test_a_write_is_tried_until_the_database_is_back(tmp_path: Path) -> None:
    """What a run reads and writes is the first answer that is no outage, or what ends the waiting."""
    database = Database(f"sqlite:///{tmp_path / 'store.sqlite'}")
    said: list[str] = []
    answers: list[BaseException | str] = [
        StoreUnavailable("away"),
        StoreFull("full"),
        StoreAway("broke"),
        "written",
    ]

    def write(_: Connection) -> str:
        answer = answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    assert database.patient(RunPatience(lambda: None, said.append)).change("1/r", write) == "written"
    assert said[0].startswith("the database does not answer") and said[-1].endswith("the build continues")

    def pause() -> None:
        raise Stopped

    answers += [StoreUnavailable("away"), "too late"]
    with pytest.raises(Stopped):
        database.patient(RunPatience(pause, said.append)).query(write)
    assert answers == ["too late"]
    database.close()


@pytest.mark.parametrize("kind", [StoreUnavailable, StoreBusy, StoreFull, StoreDamaged])
def test_an_outage_is_never_explained_as_a_failure(kind: type[StoreUnavailable]) -> None:
    """Whatever asks for the reason of a failure gets control flow instead."""
    with pytest.raises(StoreAway):
        explain(kind("away"), "the step Work", free=0)


def test_a_time_limit_stands_still_while_the_work_can_do_nothing() -> None:
    """It is not reached meanwhile, a cancellation is heard, and it is reached when the time runs again."""
    stands = [True]
    with limited(Cancellation(), 0.2, is_stopped=lambda: stands[0]) as inner:
        assert not inner.wait(0.6)
    outer = Cancellation()
    with pytest.raises(Cancelled), limited(outer, 0.2, is_stopped=lambda: True) as inner:
        outer.cancel()
        assert inner.wait(10)
        inner.check()
    with pytest.raises(DeadlinePassed), limited(Cancellation(), 0.2, is_stopped=lambda: stands[0]) as inner:
        stands[0] = False
        assert inner.wait(10)
        inner.check()
