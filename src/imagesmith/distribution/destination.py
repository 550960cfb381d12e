"""The interface of destinations, and their input: distribution makes no lookups of its own.

    distribution entry --> Delivery --> table.py: which destinations accept it --> refusal() --> deliver()
                                                                                  (the role)

To add one, see "Destinations" in docs/design.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, Protocol

from imagesmith.artifacts.disks import DiskStore
from imagesmith.artifacts.layout import OciLayout
from imagesmith.artifacts.retry_policy import RetryPolicy
from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.components.services import S3Config
from imagesmith.distribution.failures import DeliveryFailed
from imagesmith.inspection.signing import SigningError, SigningKey
from imagesmith.processes import Cancellation
from imagesmith.recipes.plan import BuildPlan
from imagesmith.settings import Settings
from imagesmith.store.amis import Ami
from imagesmith.store.database import Database
from imagesmith.values.states import ImageStatus

_NOTHING: Final = MappingProxyType[str, Any]({})


class Log(Protocol):
    """The log of a build."""

    def line(self, stage: str, text: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """The delivery of one image to one Region of one account."""

    plan: BuildPlan
    settings: Settings
    digest: str
    account: str
    region: str
    wanted: Mapping[str, Any] = field(default_factory=dict)
    """The distribution's options for the destination; the destination's module has their schema."""
    ami: Ami | None = None
    """The catalog entry of a delivered disk."""


@dataclass(frozen=True, kw_only=True)
class DistributionContext:
    """The input of a run for its distribution."""

    plan: BuildPlan
    settings: Settings
    database: Database
    """The catalog of AMIs, launch templates and parameters."""
    layout: OciLayout
    storage: ContainerStorage
    disks: DiskStore
    shared_url: str
    """The URL of the store that the hosts share; empty without one."""
    s3: Callable[[], S3Config]
    """The S3 access of the worker. Raises OSError when its secret cannot be read."""
    clock: Callable[[], datetime]
    log: Log
    timed: Callable[[str], AbstractContextManager[None]]
    """Adds the time of a block to a named part of the run."""
    cancellation: Cancellation
    retry_policy: RetryPolicy
    check_fence: Callable[[], None]
    """Call this right before any effect that is visible outside. Raises FenceLost."""
    enter_state: Callable[[ImageStatus], object]
    """Moves the image to a state."""

    def delivery(self, ami: Ami, wanted: Mapping[str, Any] = _NOTHING) -> Delivery:
        """The delivery of a catalog entry's disk."""
        return Delivery(
            plan=self.plan, settings=self.settings, digest=ami.digest, account=ami.account, region=ami.region,
            wanted=wanted, ami=ami,
        )  # fmt: skip


def signing_key(settings: Settings) -> SigningKey:
    """The key that signs what leaves. A destination opens it first, so that nothing leaves without a signature
    because the key cannot be read. Raises DeliveryFailed."""
    try:
        return SigningKey.open(settings.data_dir)
    except SigningError as error:
        raise DeliveryFailed(f"nothing was sent, because it could not be signed: {error}") from error


class Destination(Protocol):
    """One kind of destination for images. It has no state."""

    member: str
    """The member of a distribution entry that asks for it; empty if every entry is offered to it."""

    def accepts(self, delivery: Delivery, /) -> bool:
        """Whether the delivery is for this destination under the current settings."""
        ...

    def refusal(self, delivery: Delivery, /) -> str:
        """The reason why the run's execution role has no access to the destination; empty when it has."""
        ...

    def deliver(self, context: DistributionContext, delivery: Delivery, /) -> Sequence[str]:
        """Deliver the image and return its locations, as outputs show them.

        It may be called again after a crash: it finds a complete delivery, or repeats the delivery.
        Raises DeliveryFailed, Cancelled.
        """
        ...


def deliver(destination: Destination, context: DistributionContext, delivery: Delivery) -> Sequence[str]:
    """Deliver if the execution role permits it. Raises DeliveryFailed, Cancelled."""
    refusal = destination.refusal(delivery)
    if refusal:
        raise DeliveryFailed(refusal)
    return destination.deliver(context, delivery)
