"""Addresses of ECR in every spelling, and what only looks like one."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagesmith.artifacts.tags import RegistryTags
from imagesmith.recipes.parents import ParentKind, classify_parent
from imagesmith.settings import NoRegistry, Registry, Settings
from imagesmith.values.ecr import EcrAddress, EcrError, ecr_address

ACCOUNT = "123456789012"


@pytest.mark.parametrize(
    ("host", "region"),
    [
        (f"{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com", "eu-west-1"),
        (f"{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com:443", "eu-west-1"),
        (f"{ACCOUNT}.DKR.ECR.EU-WEST-1.AMAZONAWS.COM", "eu-west-1"),
        (f"{ACCOUNT}.dkr.ecr-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        (f"{ACCOUNT}.dkr.ecr.cn-north-1.amazonaws.com.cn", "cn-north-1"),
        (f"{ACCOUNT}.dkr-ecr.us-east-1.on.aws", "us-east-1"),
        (f"{ACCOUNT}.dkr-ecr-fips.us-east-1.on.aws", "us-east-1"),
        (f"{ACCOUNT}.dkr-ecr.cn-north-1.on.amazonwebservices.com.cn", "cn-north-1"),
        (f"{ACCOUNT}.dkr.ecr.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1"),
        (f"{ACCOUNT}.dkr.ecr.us-iso-east-1.c2s.ic.gov", "us-iso-east-1"),
    ],
)
@pytest.mark.parametrize(
    "image", ["web", "team/web:1.0", f"team/web@sha256:{'0' * 64}", f"web:1@sha256:{'0' * 64}"]
)
def test_every_spelling_means_an_account_and_a_region(host: str, region: str, image: str) -> None:
    """Hosts of all partitions, of FIPS and of IPv6, with and without a tag and a digest."""
    assert ecr_address(f"{host}/{image}") == EcrAddress(ACCOUNT, region, image)
    assert classify_parent(f"{host}/{image}").kind is ParentKind.REGISTRY
    settings = Settings(data_dir=Path("/x"), registries={f"{ACCOUNT}/{region}": Registry("r.example:5000/golden/")})
    assert settings.locate(f"{host}/{image}") == (
        f"r.example:5000/golden/{image}",
        Registry("r.example:5000/golden/"),
    )
    assert settings.locate(f"docker://{host}/{image}")[0] == f"r.example:5000/golden/{image}"


@pytest.mark.parametrize(
    "host",
    [
        "12345678901.dkr.ecr.eu-west-1.amazonaws.com",
        f"{ACCOUNT}3.dkr.ecr.eu-west-1.amazonaws.com",
        f"x.{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com",
        f"{ACCOUNT}.dkr.ecr.amazonaws.com",
        f"{ACCOUNT}.dkr.ecr.eu-west-1.example.com",
        f"{ACCOUNT}.dkr.ecr.eu-west-1.amazonaws.com:5000",
        "dkr.ecr.eu-west-1.amazonaws.com",
    ],
)
def test_what_only_looks_like_ecr_is_refused(host: str) -> None:
    """It would leave the machine by a slip of the pen."""
    with pytest.raises(EcrError, match="expected ACCOUNT"):
        ecr_address(f"{host}/web")
    with pytest.raises(NoRegistry):
        Settings(data_dir=Path("/x")).locate(f"{host}/web")
    assert classify_parent(f"{host}/web").kind is ParentKind.INVALID


@pytest.mark.parametrize(
    "reference", ["public.ecr.aws/x/y:1", "amazonlinux:latest", "r.example:5000/dkr.ecr.x/y", "web"]
)
def test_other_registries_are_themselves(reference: str) -> None:
    """ECR Public is one as any other."""
    assert ecr_address(reference) is None
    assert Settings(data_dir=Path("/x")).locate(reference) == (reference, None)


def test_the_registry_of_the_account_goes_before_that_of_the_region() -> None:
    """As for pushes; another Region has none."""
    settings = Settings(
        data_dir=Path("/x"), registries={"us-east-1": Registry("all:1"), f"{ACCOUNT}/us-east-1": Registry("own:1")}
    )
    assert settings.locate(f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/web")[0] == "own:1/web"
    assert settings.locate("999999999999.dkr.ecr.us-east-1.amazonaws.com/web")[0] == "all:1/web"
    with pytest.raises(NoRegistry, match=r'add \[registries."123456789012/us-east-2"\]'):
        settings.locate(f"{ACCOUNT}.dkr.ecr.us-east-2.amazonaws.com/web")


def test_a_tag_that_is_looked_up_for_a_schedule_does_not_leave_the_machine() -> None:
    """Without a registry for it the answer names the setting; no program is started."""
    reference = f"{ACCOUNT}.dkr.ecr.us-east-2.amazonaws.com/web:1"
    state = RegistryTags(Settings(data_dir=Path("/x")).locate).look_up([reference])[reference]
    assert "no registry is configured" in state.problem and state.digests == ()
