"""The table of destinations: complete, asked in order, and never around the execution role."""

from __future__ import annotations

import pkgutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imagesmith.distribution import destinations
from imagesmith.distribution.destination import Delivery, Destination, DistributionContext, deliver
from imagesmith.distribution.destinations.registry import RegistryRepository
from imagesmith.distribution.destinations.s3_export import S3Export
from imagesmith.distribution.failures import DeliveryFailed
from imagesmith.distribution.table import DESTINATIONS, accepting
from imagesmith.recipes.plan import PlannedRole
from imagesmith.settings import MachineHost, Registry, Role, Settings
from imagesmith.store.amis import Ami
from testing.clocks import MovingClock
from testing.plans import PLAN


def test_every_module_of_destinations_has_one_row() -> None:
    """A file without a row would be a destination that nothing is delivered to."""
    rows = [type(item).__module__ for items in DESTINATIONS.values() for item in items]
    modules = [item.name for item in pkgutil.iter_modules(destinations.__path__, f"{destinations.__name__}.")]
    assert sorted(rows) == sorted(modules)


@pytest.mark.parametrize(
    ("registries", "region", "expected"),
    [
        ((), "eu-west-1", "EmbeddedLayout"),
        ((), "us-east-1", "RegistryRepository"),
        (("eu-west-1",), "eu-west-1", "RegistryRepository"),
        (("123456789012/eu-west-1",), "eu-west-1", "RegistryRepository"),
        (("999999999999/eu-west-1",), "eu-west-1", "EmbeddedLayout"),
        (("us-east-1",), "eu-west-1", "EmbeddedLayout"),
    ],
)
def test_a_container_image_goes_to_the_first_that_accepts_it(
    tmp_path: Path, registries: tuple[str, ...], region: str, expected: str
) -> None:
    """It stays in the layout only in its own Region, and only when no registry is configured there."""
    settings = Settings(tmp_path, registries={name: Registry("registry.example") for name in registries})
    delivery = Delivery(plan=PLAN, settings=settings, digest="sha256:0", account=PLAN.account, region=region)
    assert type(accepting("container image", delivery)[0]).__name__ == expected


def of_ami(tmp_path: Path, clock: MovingClock, *, role: PlannedRole | None = None) -> Delivery:
    host = MachineHost("host.example", user="root", directory="/images", key_file="/key", host_key="ssh-ed25519 A")
    settings = Settings(
        tmp_path, machine_hosts={"us-east-1": host}, roles={"vmie": Role(buckets=("disks",))}
    )  # fmt: skip
    ami = Ami("ami-" + "1" * 17, PLAN.account, "us-east-1", "web", "sha256:0", clock())
    wanted = {"roleName": "vmie", "diskImageFormat": "RAW", "s3Bucket": "disks"}
    return Delivery(
        plan=replace(PLAN, role=role), settings=settings, digest=ami.digest, account=ami.account, region=ami.region,
        wanted=wanted, ami=ami,
    )  # fmt: skip


def test_an_ami_goes_to_every_destination_that_accepts_it(tmp_path: Path, clock: MovingClock) -> None:
    """To the catalog first, so that an entry exists before its disk is copied; to a host where there is one."""
    delivery = of_ami(tmp_path, clock)
    assert [type(item).__name__ for item in accepting("AMI", delivery)] == ["CatalogRegion", "MachineHosts"]
    elsewhere = replace(delivery, region="eu-north-1")
    assert [type(item).__name__ for item in accepting("AMI", elsewhere)] == ["CatalogRegion"]


@pytest.mark.parametrize(
    ("role", "refused"),
    [
        (None, []),
        (PlannedRole("builder", hosts=("us-east-1",), buckets=("disks",)), []),
        (PlannedRole("builder", buckets=("disks",)), ["MachineHosts"]),
        (PlannedRole("builder", hosts=("*",)), ["S3Export"]),
        (PlannedRole("builder"), ["MachineHosts", "S3Export"]),
    ],
)
def test_a_role_withholds_what_it_does_not_name(
    tmp_path: Path, clock: MovingClock, role: PlannedRole | None, refused: Sequence[str]
) -> None:
    """Each destination of disks says which role does not reach it, and what to add."""
    delivery = of_ami(tmp_path, clock, role=role)
    asked = (*DESTINATIONS["AMI"], *DESTINATIONS["disk export"])
    reasons = {type(item).__name__: item.refusal(delivery) for item in asked}
    assert [name for name, reason in reasons.items() if reason] == list(refused)
    assert all("add " in reasons[name] and '[roles."builder"]' in reasons[name] for name in refused)


class Careless:
    """A destination that delivers whatever it is asked to."""

    member = ""

    def accepts(self, _: Delivery, /) -> bool:
        return True

    def refusal(self, _: Delivery, /) -> str:
        return "the execution role builder has no access to the shelf"

    def deliver(self, _: DistributionContext, __: Delivery, /) -> tuple[str, ...]:
        raise AssertionError("delivered all the same")


def test_nothing_is_delivered_that_the_role_refuses(
    tmp_path: Path, clock: MovingClock, context: DistributionContext
) -> None:
    """The refusal is asked for in one place, so that no destination can forget it."""
    with pytest.raises(DeliveryFailed, match="no access to the shelf"):
        deliver(Careless(), context, of_ami(tmp_path, clock))


@pytest.mark.parametrize("destination", [RegistryRepository(), S3Export()])
def test_nothing_leaves_that_cannot_be_signed(
    tmp_path: Path, clock: MovingClock, context: DistributionContext, destination: Destination
) -> None:
    """A key that cannot be read is a failed delivery before the first byte is sent."""
    (tmp_path / "signing").mkdir()
    (tmp_path / "signing/ed25519.pem").write_text("no key")
    registries = {"us-east-1": Registry("registry.invalid")}
    delivery = of_ami(tmp_path, clock)
    wanted = {**delivery.wanted, "repository": "web", "tags": ()}
    settings = replace(delivery.settings, registries=registries)
    with pytest.raises(DeliveryFailed, match=r"nothing was sent.*signing key .*ed25519.pem cannot be used"):
        destination.deliver(context, replace(delivery, settings=settings, wanted=wanted))


@pytest.fixture
def context(tmp_path: Path) -> DistributionContext:
    """One that a careless destination would use; nothing in it works."""
    members: dict[str, Any] = dict.fromkeys(DistributionContext.__dataclass_fields__)
    return DistributionContext(**{**members, "plan": PLAN, "settings": Settings(tmp_path)})
