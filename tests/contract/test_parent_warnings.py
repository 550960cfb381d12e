"""An AMI that the catalog does not hold is told at creation and by a plan; nothing is refused for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from imagesmith.cli.plan import _call, _record
from imagesmith.schedule.preview import PipelinePlan, plan_pipeline
from imagesmith.settings import Settings
from imagesmith.store.amis import Ami, put_ami
from imagesmith.values.arn import Arn
from testing.api import ACCOUNT, REGION, Api

UNKNOWN = "ami-0123456789abcdef0"


def planned(api: Api, arn: str, folder: Path) -> PipelinePlan:
    settings = Settings(data_dir=folder, account=ACCOUNT, region=REGION)
    with api.database.read() as tx:
        return plan_pipeline(_call(tx, settings, Arn.parse(arn), api.clock()), _record(tx, Arn.parse(arn), "pipe"))


def put(api: Api, *, account: str = ACCOUNT, region: str = REGION) -> None:
    with api.database.write("amis") as tx:
        put_ami(tx, Ami(UNKNOWN, account, region, "base", "sha256:" + "0" * 64, api.clock()))


def test_an_unknown_ami_is_a_warning(api: Api, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In the server's log and the pipeline's at creation, and in the plan until the AMI is registered."""
    arn = api.pipeline(imageRecipeArn=api.image_recipe(parentImage=UNKNOWN))
    expected = f"the parent image {UNKNOWN} is not in the catalog of AMIs of account {ACCOUNT}"
    assert caplog.text.count(expected) == 2
    [log] = (tmp_path / "data" / "logs").rglob("pipelines/pipe/*.log")
    assert f"create | warning: {expected}" in log.read_text()
    [warning] = planned(api, arn, tmp_path).warnings
    assert warning.startswith(expected) and "imagesmith base add" in warning
    put(api)
    assert planned(api, arn, tmp_path).warnings == ()


@pytest.mark.parametrize(
    ("entry", "expected"),
    [({"account": "9" * 12}, "is not in the catalog"), ({"region": "ap-south-1"}, "is an AMI of ap-south-1")],
)
def test_an_ami_that_cannot_be_used_is_a_warning_too(
    api: Api, tmp_path: Path, entry: dict[str, str], expected: str
) -> None:
    """One of another account that may not launch it, or of another Region."""
    put(api, **entry)
    arn = api.pipeline(imageRecipeArn=api.image_recipe(parentImage=UNKNOWN))
    [warning] = planned(api, arn, tmp_path).warnings
    assert expected in warning


def test_an_ami_of_the_catalog_is_none(api: Api, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nor is a container recipe's parent."""
    put(api)
    arn = api.pipeline(imageRecipeArn=api.image_recipe(parentImage=UNKNOWN))
    assert planned(api, arn, tmp_path).warnings == ()
    assert planned(api, api.pipeline(name="other"), tmp_path).warnings == ()
    assert "catalog" not in caplog.text
