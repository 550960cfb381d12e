"""RetryImage of container images: what was built is tested and pushed again, and not built again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from testing.leaks import assert_clean
from testing.pipeline_support import HOLD, REGION, Forge, RunningServer, held, image_digest, release, uris
from testing.refusals import refused
from testing.registry_support import RunningRegistry

pytestmark = pytest.mark.tool


@pytest.fixture
def lonely(tmp_path: Path, tiny_parent: str, own_registry: RunningRegistry) -> Iterator[RunningServer]:
    """A server whose registry does not run yet, and that gives up soon."""
    settings = "[builds]\npush_attempts = 2\n"
    with RunningServer(
        tmp_path / "data", parent=tiny_parent, registries={REGION: own_registry.host}, settings=settings
    ) as running:
        yield running.start()
        running.stop()
        assert_clean(running)


def test_an_image_whose_registry_was_away_is_pushed_by_a_retry(
    lonely: RunningServer, own_registry: RunningRegistry
) -> None:
    """FAILED in DISTRIBUTING, retried under its own ARN, AVAILABLE in the registry; nothing is built twice."""
    forge = lonely.forge
    image = forge.build(forge.recipe(forge.component(build="echo one > /one", test="test -e /one")), "FAILED")
    arn = image["arn"]
    assert image["state"]["failureContext"]["imageStatus"] == "DISTRIBUTING"
    own_registry.start()
    assert forge.client.retry_image(imageBuildVersionArn=arn)["imageBuildVersionArn"] == arn
    again = forge.finished(arn)
    assert image_digest(f"docker://{uris(again)[0]}").startswith("sha256:")
    log = lonely.log(arn)
    assert log.count("build/Build: success") == 1 and "retry 1 begins in DISTRIBUTING" in log
    with refused("InvalidRequestException"):
        forge.client.retry_image(imageBuildVersionArn=arn)
    assert changes(lonely, arn) == [
        ("PENDING", "BUILDING"), ("BUILDING", "TESTING"), ("TESTING", "DISTRIBUTING"), ("DISTRIBUTING", "FAILED"),
        ("FAILED", "DISTRIBUTING"), ("DISTRIBUTING", "AVAILABLE"),
    ]  # fmt: skip


def changes(server: RunningServer, arn: str) -> list[tuple[str, str]]:
    """The states that the events about an image tell, oldest first."""
    found = json.loads(server.command("event", "list", "--json"))
    return [
        (item["detail"]["previous-state"]["status"], item["detail"]["state"]["status"])
        for item in reversed(found)
        if item["detail-type"] == "EC2 Image Builder Image State Change" and item["resources"] == [arn]
    ]


def test_a_cancelled_test_is_repeated(forge: Forge) -> None:
    """CANCELLED in TESTING goes back there; an image that was never built is refused."""
    component = forge.component(build="echo one > /one", test=HOLD.format(name="retried"))
    arn = forge.start(forge.recipe(component))
    held("retried")
    forge.client.cancel_image_creation(imageBuildVersionArn=arn)
    forge.finished(arn, "CANCELLED")
    forge.client.retry_image(imageBuildVersionArn=arn)
    release("retried")
    forge.finished(arn)
    failed = forge.build(forge.recipe(forge.component(build="exit 1")), "FAILED")
    with refused("InvalidRequestException") as refusal:
        forge.client.retry_image(imageBuildVersionArn=failed["arn"])
    assert "before its build had an output image" in refusal.message
