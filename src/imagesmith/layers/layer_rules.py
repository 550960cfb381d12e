"""The rules by which a build's layers are made, handed down from the build to the writer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class LayerRules:
    """`epoch`: no file of a layer is later, in seconds; None: files keep their times. `drops`: caches, logs and ids
    are left out (dropped_files.py); `on_dropped` takes the path of each."""

    epoch: int | None = None
    drops: bool = False
    on_dropped: Callable[[str], object] = lambda _: None

    @classmethod
    def until(cls, moment: datetime | None) -> LayerRules:
        return cls(int(moment.timestamp()) if moment else None)

    @property
    def moment(self) -> datetime | None:
        """The time of images and of the entries of their history; None: their own."""
        return None if self.epoch is None else datetime.fromtimestamp(self.epoch, UTC)

    def tell(self, dropped: Iterable[str]) -> None:
        for path in dropped:
            self.on_dropped(path)
