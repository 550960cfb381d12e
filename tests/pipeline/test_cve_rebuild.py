"""A base with a vulnerability and an image built on it: news after their builds, then builds in order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from testing.pipeline_support import HOLD, TEMPLATE, Forge, RunningServer, held, release, uris
from testing.refusals import refused
from testing.vulnerable import debian, feed

pytestmark = pytest.mark.tool


def test_pipelines_are_started_in_the_order_of_ancestry(
    forge: Forge, server: RunningServer, tmp_path: Path
) -> None:
    """The child waits for the new image of its parent, and is built on that one."""
    recipe = forge.recipe(debian(forge))
    base = forge.pipeline(recipe)
    first = forge.finished(forge.run(base))["arn"]
    wildcard = f"{first.rsplit('/', 2)[0]}/x.x.x"
    child = forge.pipeline(forge.recipe(forge.component(build="echo app > /app"), parentImage=wildcard))
    app = forge.finished(forge.run(child))["arn"]
    feed(server, tmp_path)
    events = json.loads(server.command("event", "list", "--json"))
    news = {item["resources"][0]: item for item in events if "CVE Detected" in item["detail-type"]}
    assert {first, app} <= set(news)
    assert news[app]["resources"] == [app, child]
    assert news[app]["detail"]["finding-severity-counts"]["high"] == 1
    answer = json.loads(server.command("cve", "CVE-2024-0001", "--json"))
    remedies = {item["arn"]: (item["remedy"], item["affectedParent"]) for item in answer["images"]}
    assert (remedies[first], remedies[app]) == (("REBUILD", ""), ("PARENT", first))
    started = json.loads(server.command("cve", "CVE-2024-0001", "--rebuild", "--json"))["started"]
    images = {item["pipeline"]: item["image"] for item in started}
    assert [item["pipeline"] for item in started if item["pipeline"] in (base, child)] == [base, child]
    rebuilt = forge.finished(images[child])
    assert rebuilt["containerRecipe"]["parentImage"] == images[base] == f"{first.rpartition('/')[0]}/2"


def test_a_registry_tag_of_a_revoked_image_is_no_parent(forge: Forge, server: RunningServer) -> None:
    """The recipe names no image: the digest of what was pulled does; nothing of the build is started."""
    # images of the same bytes are revoked with it: these are of no other test
    parent = forge.build(forge.recipe(forge.component(build=f"echo {forge.name('base')} > /base")))
    (uri,) = uris(parent)
    early = TEMPLATE.replace("{{{ imagebuilder:components }}}", "RUN echo early\n{{{ imagebuilder:components }}}")
    recipe = forge.recipe(
        forge.component(build="echo app > /app"), parentImage=uri, dockerfileTemplateData=early
    )  # fmt: skip
    below = forge.build(recipe)
    assert "RUN echo early" in server.log(below["arn"])
    tree = json.loads(server.command("image", "ancestry", below["arn"], "--json"))
    assert [item["arn"] for item in tree["parents"]] == [parent["arn"]]
    answer = json.loads(server.command("image", "revoke", parent["arn"], "--reason", "leaked key", "--json"))
    assert [item["arn"] for item in answer["images"]] == [parent["arn"], below["arn"]]
    assert uri in answer["images"][0]["locations"]
    failed = forge.build(recipe, "FAILED")
    assert f"{parent['arn']} is revoked: leaked key" in failed["state"]["reason"]
    assert "echo app" not in server.log(failed["arn"]) and "echo early" not in server.log(failed["arn"])
    server.command("image", "unrevoke", parent["arn"])
    forge.build(recipe)


def test_an_image_that_is_revoked_during_its_run_is_not_delivered(forge: Forge, server: RunningServer) -> None:
    """Nor by a retry, nor after the image was deleted that it is built on; afterwards the retry goes through."""
    parent = forge.build(forge.recipe(forge.component(build="echo base > /base")))
    component = forge.component(build="echo app > /app", test=HOLD.format(name="revoked"))
    arn = forge.start(forge.recipe(component, parentImage=uris(parent)[0]))
    held("revoked")
    server.command("image", "revoke", parent["arn"], "--reason", "leaked key")
    forge.client.delete_image(imageBuildVersionArn=parent["arn"])
    release("revoked")
    image = forge.finished(arn, "FAILED")
    why = f"{arn} is revoked with {parent['arn']}, which it is built on: leaked key"
    assert why in image["state"]["reason"] and image["state"]["failureContext"]["imageStatus"] == "DISTRIBUTING"
    assert not image.get("outputResources", {}).get("containers")
    with refused("InvalidRequestException") as refusal:
        forge.client.retry_image(imageBuildVersionArn=arn)
    assert why in refusal.message
    server.command("image", "unrevoke", parent["arn"])
    forge.client.retry_image(imageBuildVersionArn=arn)
    assert uris(forge.finished(arn)) != []
