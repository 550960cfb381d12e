"""Reproducible builds: the rules of their layers, what their log says, and what they refuse.

plan --SOURCE_DATE_EPOCH--> RUN, components, layers, configuration, history, file systems of disks
"""

from __future__ import annotations

from pathlib import Path

from imagesmith.artifacts.ext4_times import FixedTimes
from imagesmith.builds.failures import StepFailed
from imagesmith.builds.work import Work
from imagesmith.layers.dropped_files import remove_dropped, table
from imagesmith.layers.layer_rules import LayerRules
from imagesmith.values.names import iso_instant

_STAGE = "reproducible"


def layer_rules(work: Work) -> LayerRules | None:
    """The rules of the plan's layers, which log what is left out of them; None for a build that is not
    reproducible."""
    wanted = work.plan.reproducible
    if wanted is None:
        return None
    return LayerRules(wanted.epoch, drops=True, on_dropped=lambda path: work.log.line(_STAGE, f"left out: {path}"))


def fixed_times(work: Work) -> FixedTimes | None:
    """The times of the file systems of the plan's disk; None for a build that is not reproducible."""
    wanted = work.plan.reproducible
    return None if wanted is None else FixedTimes(wanted.epoch)


def drop_files(work: Work, folder: Path) -> None:
    """Remove from the root of a disk, where nothing runs, what a reproducible image does not carry."""
    rules = layer_rules(work)
    if rules is not None:
        rules.tell(remove_dropped(folder, rules.epoch))


def begin(work: Work) -> None:
    """Log the rules of a reproducible build, and refuse one that cannot be. Raises StepFailed."""
    wanted = work.plan.reproducible
    if wanted is None:
        if work.worker_context.settings.builds.reproducible and work.plan.image_kind.is_disk:
            work.log.line(_STAGE, "not reproducible: a machine that boots writes other bytes each time")
        return
    now, moment = work.worker_context.clock(), LayerRules(wanted.epoch).moment
    assert moment is not None
    if now < moment:
        raise StepFailed(
            f"the clock of this worker says {iso_instant(now)}, which is before SOURCE_DATE_EPOCH {wanted.epoch} "
            f"({iso_instant(moment)}): files of this build would be earlier than in every other; set the clock, or "
            "give the tag imagesmith:reproducible an earlier time"
        )
    work.log.line(_STAGE, f"SOURCE_DATE_EPOCH is {wanted.epoch}, {iso_instant(moment)}: nothing is later")
    for item in table():
        work.log.line(_STAGE, f"left out where it is new: /{item.pattern} ({item.why})")
