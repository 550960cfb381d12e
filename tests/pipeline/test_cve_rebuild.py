"""A base with a vulnerability and an image built on it: news after their builds, then builds in order."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from testing.pipeline_support import Forge, RunningServer
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
