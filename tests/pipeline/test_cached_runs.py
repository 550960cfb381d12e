"""Runs that take instructions and components from earlier runs: what the log and the provenance say."""

from __future__ import annotations

from typing import Any

import pytest

from imagesmith.artifacts.layout import OciLayout
from imagesmith.artifacts.referrers import attached
from imagesmith.inspection.provenance import KIND, verify
from imagesmith.inspection.signing import SigningKey
from testing.pipeline_support import Forge, RunningServer, image_digest, uris

pytestmark = pytest.mark.tool

DRAW = "cat /proc/sys/kernel/random/uuid"


def template(forge: Forge) -> str:
    """A text that no other test builds: recipes share results."""
    return f"""\
FROM {{{{{{ imagebuilder:parentImage }}}}}}
{{{{{{ imagebuilder:environments }}}}}}
ARG NAME={forge.name("text")}
RUN {DRAW} >/before
{{{{{{ imagebuilder:components }}}}}}
RUN --network=none {DRAW} >/after
"""


def cached_results(server: RunningServer, image: dict[str, Any]) -> list[dict[str, Any]]:
    """What the signed provenance of an image says about its cache."""
    digest = image_digest(f"docker://{uris(image)[0]}")
    layout = OciLayout(server.data_dir / "oci")
    (found,) = [item for item in attached(layout, digest) if item.document.kind == KIND]
    proven = verify(found.document.data, digest, (SigningKey.open(server.data_dir).public,))
    listed = proven.statement["predicate"]["buildDefinition"]["resolvedDependencies"]
    return [item for item in listed if item["name"] == "cached result"]


def lines_of(server: RunningServer, arn: str, *words: str) -> list[str]:
    """Lines of a log with one of these words, without their times and labels."""
    return [line.split(" | ", 1)[1] for line in server.log(arn).splitlines() if any(word in line for word in words)]


def test_a_second_run_takes_instructions_from_the_first(forge: Forge, server: RunningServer) -> None:
    """Not its components, which see the variables of the run; log and provenance say what came from where."""
    text = template(forge)
    recipe = forge.recipe(
        forge.component(build="env | grep ^IMAGE_BUILD_VERSION= >/seen"), dockerfileTemplateData=text
    )
    pipeline = forge.pipeline(recipe)
    first = forge.finished(forge.run(pipeline))
    assert cached_results(server, first) == []
    second = forge.finished(forge.run(pipeline))
    name = second["arn"].split("image/")[1].rsplit("/", 1)[0]
    (line,) = lines_of(server, second["arn"], "CACHED")
    assert line == f"CACHED: the result of {name}/1, 0 min old"
    told = lines_of(server, second["arn"], "not cached")
    assert told == [f"not cached: an earlier step or the parent changed since {name}/1"]
    (item,) = cached_results(server, second)
    assert item["annotations"]["step"] == "RUN in line 4" and item["annotations"]["build"] == f"{name}/1"
    assert set(item["digest"]) == {"sha256"}
    third = forge.finished(
        forge.client.start_image_pipeline_execution(
            imagePipelineArn=pipeline, tags={"imagesmith:no-cache": "true"}
        )["imageBuildVersionArn"]
    )
    assert lines_of(server, third["arn"], "CACHED") == [] and cached_results(server, third) == []


def test_a_run_that_asks_takes_components_as_well(forge: Forge, server: RunningServer) -> None:
    """A component behind a changed one runs; those before it, and the whole of an unchanged build, do not."""
    one, two = forge.component(build=f"{DRAW} >/one; env >/env"), forge.component(build=f"{DRAW} >/two")
    text = template(forge)
    recipe = forge.recipe(one, two, dockerfileTemplateData=text, tags={"imagesmith:cache": "1h"})
    images = [forge.build(recipe) for _ in range(2)]
    told = lines_of(server, images[1]["arn"], "CACHED", "not cached")
    assert len(told) == 4 and all("CACHED: the result of" in line for line in told)
    steps = [item["annotations"]["step"] for item in cached_results(server, images[1])]
    named = [f"component {arn.split('component/')[1]}" for arn in (one, two)]
    assert steps == ["RUN in line 4", *named, "RUN in line 6"]
    # nothing ran in the instance of the second build, and its contents are the same
    resting = "the instance rests until a command needs it"
    assert lines_of(server, images[1]["arn"], "rests", "inventory")[0] == resting
    said = [lines_of(server, image["arn"], "packages on") for image in images]
    assert said[0] == said[1] != []
    other = forge.recipe(one, forge.component(build=f"{DRAW} >/other"), dockerfileTemplateData=text)
    image = forge.build(other, tags={"imagesmith:cache": "1h"})
    told = lines_of(server, image["arn"], "CACHED", "not cached")
    assert ["CACHED" in line for line in told] == [True, True, False, False]


def test_a_component_that_acts_outside_runs_each_time(forge: Forge, server: RunningServer) -> None:
    """The log says why; it sees the variables of its run, as without the cache."""
    component = forge.component(build="echo {{ context:uuid }} $IMAGE_BUILD_VERSION")
    recipe = forge.recipe(component, tags={"imagesmith:cache": "1h"})
    images = [forge.build(recipe) for _ in range(2)]
    (line,) = lines_of(server, images[1]["arn"], "not cached")
    assert line.endswith("uses context:uuid, which differs in every run")
