"""Recipes without a network: nothing of a build reaches one."""

from __future__ import annotations

import pytest

from testing.pipeline_support import Forge, RunningServer

pytestmark = pytest.mark.tool

SHOW = "echo \"{}: $(cut -d : -f 1 -s /proc/net/dev | tr -d ' \\n')\""
"""A command that prints the names of the network's interfaces."""
TEMPLATE = f"""\
FROM {{{{{{ imagebuilder:parentImage }}}}}}
{{{{{{ imagebuilder:environments }}}}}}
RUN {SHOW.format("before")}
{{{{{{ imagebuilder:components }}}}}}
RUN {SHOW.format("after")}
"""


def test_nothing_of_a_recipe_without_a_network_has_one(forge: Forge, server: RunningServer) -> None:
    """Instructions, build and test components see a loopback alone; the tag of a run has the last word."""
    component = forge.component(build=SHOW.format("build"), test=SHOW.format("test"))
    recipe = forge.recipe(component, dockerfileTemplateData=TEMPLATE, tags={"imagesmith:network": "none"})
    log = server.log(forge.build(recipe)["arn"])
    for place in ("before", "build", "test", "after"):
        assert f"{place}: lo\n" in log, log
    log = server.log(forge.build(recipe, tags={"imagesmith:network": "outbound"})["arn"])
    assert "build: lotap0\n" in log, log


def test_the_worker_transfers_nothing_for_such_a_recipe(forge: Forge, server: RunningServer) -> None:
    """A download fails, and says why."""
    data = """\
name: fetch
schemaVersion: 1.0
phases:
  - name: build
    steps:
      - name: Fetch
        action: WebDownload
        inputs:
          - source: https://example.invalid/x
            destination: /x
"""
    recipe = forge.recipe(forge.component(data=data), tags={"imagesmith:network": "none"})
    image = forge.build(recipe, "FAILED")
    assert "WebDownload needs a network, and that of this recipe is switched off" in image["state"]["reason"]
