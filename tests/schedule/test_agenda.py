"""The agenda: which pipelines run in a span of time, and when."""

from __future__ import annotations

from datetime import timedelta

from imagesmith.schedule.agenda import agenda
from testing.clock_support import ACCOUNT, NOON, REGION, Factory

HOUR = timedelta(hours=1)


def test_the_agenda_lists_each_pipeline_once_with_its_instants(factory: Factory) -> None:
    """Earliest first, within the span, at most so many; a missed tick shows as the one run that it will be."""
    noon = factory.pipeline("cron(0 */6 * * ? *)")
    late = factory.pipeline("cron(30 13 * * ? *)", name="late", zone="Europe/Berlin", always=False)
    factory.pipeline("cron(0 0 1 1 ? *)", name="far")
    factory.pipeline("cron(0 13 * * ? *)", name="disabled", status="DISABLED")
    until = NOON + 24 * HOUR
    with factory.database.read() as tx:
        found = agenda(tx, ACCOUNT, REGION, now=NOON, until=until, most=10)
        first = agenda(tx, ACCOUNT, REGION, now=NOON, until=until, most=1)
        missed = agenda(tx, ACCOUNT, REGION, now=NOON + 13 * HOUR, until=until, most=1)
    assert [item.pipeline_arn for item in found] == [late, noon] or [item.name for item in found] == [
        "late",
        "pipe",
    ]
    assert found[0].instants == (NOON + timedelta(minutes=30),) and found[0].condition.endswith("UPDATES_AVAILABLE")
    assert found[1].instants == tuple(NOON + hours * HOUR for hours in (6, 12, 18))
    assert first == found[:1]
    assert missed[0].instants[0] == NOON + timedelta(minutes=30)
