"""The dependency condition on a real store: baseline, what counts, and the reason that is told."""

from __future__ import annotations

from datetime import timedelta

import pytest

from imagesmith.settings import Schedules
from testing.clock_support import MANAGED, NOON, OWN, Factory, MakeFactory

HOUR = timedelta(hours=1)


@pytest.fixture
def fleet(factory: Factory) -> Factory:
    """A base pipeline `base` and a pipeline `app` on its one image, with component `hello` by wildcard."""
    factory.component()
    factory.recipe("base")
    factory.pipeline(None, name="base", containerRecipeArn=f"{OWN}:container-recipe/base/x.x.x")
    build_base(factory)
    factory.recipe(
        "app", parentImage=f"{OWN}:image/base/x.x.x",
        components=[{"componentArn": f"{OWN}:component/hello/x.x.x"}],
    )  # fmt: skip
    return factory


def build_base(fleet: Factory, status: str = "AVAILABLE") -> str:
    arn = f"{OWN}:image-pipeline/base"
    image = fleet.call("StartImagePipelineExecution", imagePipelineArn=arn)["imageBuildVersionArn"]
    fleet.finish(image, status)
    return str(image)


def app(fleet: Factory, **members: object) -> str:
    recipe = f"{OWN}:container-recipe/app/x.x.x"
    return fleet.pipeline(name="app", always=False, **{"containerRecipeArn": recipe, **members})  # type: ignore[arg-type]


def test_it_builds_until_an_image_is_available_and_then_only_for_updates(fleet: Factory) -> None:
    """No image yet: build; a failed image: build again; an available one: nothing, and the run state stays."""
    arn = app(fleet)
    (first,) = fleet.tick_at(NOON + HOUR)
    assert "no image of this pipeline is AVAILABLE yet" in fleet.log(arn)
    fleet.finish(first, "FAILED")
    (second,) = fleet.tick_at(NOON + 2 * HOUR)
    fleet.finish(second)
    before = fleet.get(arn).document
    assert fleet.tick_at(NOON + 3 * HOUR) == []
    after = fleet.get(arn).document
    assert "skip: scheduled for 2026-11-23T15:00:00Z: no dependency has an update" in fleet.log(arn)
    assert (after["dateLastRun"], after["lastRunStatus"]) == (before["dateLastRun"], "AVAILABLE")
    assert fleet.next_run(arn) == "2026-11-23T16:00:00.000Z"


def settled(fleet: Factory, **members: object) -> str:
    """A pipeline `app` with an AVAILABLE image, so that only an update makes it build."""
    arn = app(fleet, **members)
    (image,) = fleet.tick_at(NOON + HOUR)
    fleet.finish(image)
    assert fleet.tick_at(NOON + 2 * HOUR) == []
    return arn


def test_a_newer_base_image_is_an_update_once_it_is_available(fleet: Factory) -> None:
    """A running or failed base build is none; the available one is named with both builds."""
    arn = settled(fleet)
    build_base(fleet, "FAILED")
    assert fleet.tick_at(NOON + 3 * HOUR) == []
    newer = build_base(fleet)
    (image,) = fleet.tick_at(NOON + 4 * HOUR)
    assert "base base 1.0.0/1 -> 1.0.0/3" in fleet.log(arn)
    assert fleet.get(image).document["containerRecipe"]["parentImage"] == newer
    fleet.finish(image)
    assert fleet.tick_at(NOON + 5 * HOUR) == []


def test_a_resolution_that_goes_down_is_no_update(fleet: Factory) -> None:
    """Deprecating the newest base build makes the wildcard resolve lower: nothing to build."""
    newest = build_base(fleet)
    settled(fleet)
    fleet.edit(newest, status="DEPRECATED")
    assert fleet.tick_at(NOON + 3 * HOUR) == []


def test_a_newer_component_is_an_update(fleet: Factory) -> None:
    """A higher version and a newer build of the wildcard's version are told by name."""
    arn = settled(fleet)
    fleet.component("1.0.1")
    (image,) = fleet.tick_at(NOON + 3 * HOUR)
    assert "component hello 1.0.0/1 -> 1.0.1/1" in fleet.log(arn)
    fleet.finish(image)
    fleet.component("0.9.0")
    assert fleet.tick_at(NOON + 4 * HOUR) == []


def test_several_updates_are_all_told(fleet: Factory) -> None:
    """The log lists every dependency that moved, base first."""
    arn = settled(fleet)
    fleet.component("2.0.0")
    build_base(fleet)
    fleet.tick_at(NOON + 3 * HOUR)
    assert "base base 1.0.0/1 -> 1.0.0/2; component hello 1.0.0/1 -> 2.0.0/1" in fleet.log(arn)


def test_a_newer_recipe_behind_a_wildcard_is_an_update(fleet: Factory) -> None:
    """The pipeline's recipe wildcard resolves to another version."""
    arn = settled(fleet)
    fleet.recipe("app", "1.1.0", parentImage=f"{OWN}:image/base/x.x.x")
    assert len(fleet.tick_at(NOON + 3 * HOUR)) == 1
    assert "recipe app 1.0.0 -> 1.1.0" in fleet.log(arn)


def test_another_recipe_set_by_an_update_is_an_update(fleet: Factory) -> None:
    """A recipe of another name, and with fewer components."""
    arn = settled(fleet)
    schedule = fleet.get(arn).document["schedule"]
    fleet.update(arn, containerRecipeArn=f"{OWN}:container-recipe/web/1.0.0", schedule=schedule)
    assert len(fleet.tick_at(NOON + 3 * HOUR)) == 1
    assert "recipe app 1.0.0 -> web 1.0.0" in fleet.log(arn)


def test_a_recipe_made_anew_under_the_same_arn_is_an_update(fleet: Factory) -> None:
    """Deleted and created again with other content: the version says nothing, the date does."""
    arn = settled(fleet)
    fleet.call("DeleteContainerRecipe", containerRecipeArn=f"{OWN}:container-recipe/app/1.0.0")
    fleet.recipe("app", parentImage=f"{OWN}:image/base/x.x.x")
    assert len(fleet.tick_at(NOON + 3 * HOUR)) == 1
    assert "recipe app 1.0.0 of 2026-11-23T12:00:00.000Z -> 1.0.0 recreated" in fleet.log(arn)


def test_pinned_inputs_build_once(fleet: Factory) -> None:
    """Fixed builds of base and component never have an update (and a registry tag only with its switch)."""
    components = [{"componentArn": f"{OWN}:component/hello/1.0.0/1"}]
    fleet.recipe("pinned", parentImage=f"{OWN}:image/base/1.0.0/1", components=components)
    fleet.recipe("tag", parentImage="docker.io/library/debian:12", components=components)
    settled(fleet, containerRecipeArn=f"{OWN}:container-recipe/pinned/1.0.0")
    tag = fleet.pipeline(name="tag", always=False, containerRecipeArn=f"{OWN}:container-recipe/tag/1.0.0")
    (image,) = fleet.tick_at(NOON + 3 * HOUR)
    fleet.finish(image)
    build_base(fleet)
    fleet.component("1.0.1")
    assert fleet.tick_at(NOON + 4 * HOUR) == []
    assert fleet.log(tag).count("no dependency has an update") == 1


def test_a_version_without_build_follows_the_newest_build(fleet: Factory) -> None:
    """`image/base/1.0.0` resolves to the newest AVAILABLE build of that version."""
    fleet.recipe("fixed", parentImage=f"{OWN}:image/base/1.0.0")
    arn = settled(fleet, containerRecipeArn=f"{OWN}:container-recipe/fixed/1.0.0")
    build_base(fleet)
    assert len(fleet.tick_at(NOON + 3 * HOUR)) == 1
    assert "base base 1.0.0/1 -> 1.0.0/2" in fleet.log(arn)


def test_the_newest_image_that_was_available_is_the_baseline_whatever_it_is_now(fleet: Factory) -> None:
    """Manual runs count, a deprecated image stays the baseline, a deleted one does not."""
    arn = app(fleet)
    manual = fleet.call("StartImagePipelineExecution", imagePipelineArn=arn)["imageBuildVersionArn"]
    fleet.finish(manual)
    assert fleet.tick_at(NOON + HOUR) == []
    fleet.edit(manual, status="DEPRECATED")
    assert fleet.tick_at(NOON + 2 * HOUR) == []
    fleet.call("DeleteImage", imageBuildVersionArn=manual)
    assert len(fleet.tick_at(NOON + 3 * HOUR)) == 1


def test_a_base_without_any_available_image_is_a_failed_run(fleet: Factory) -> None:
    """A wildcard without a match: no image, counted, told."""
    arn = app(fleet)
    fleet.edit(f"{OWN}:image/base/1.0.0/1", status="DISABLED")
    assert fleet.tick_at(NOON + HOUR) == []
    assert fleet.get(arn).document["consecutiveFailures"] == 1
    assert f"cannot be found: '{OWN}:image/base/x.x.x'" in fleet.log(arn)
    build_base(fleet)
    assert len(fleet.tick_at(NOON + 2 * HOUR)) == 1


def test_managed_bases_and_components_settle_too(factory: Factory) -> None:
    """A pipeline on managed content builds once and then waits for a newer release of it."""
    factory.recipe("managed", parentImage=f"{MANAGED}:image/debian-x86-12/x.x.x")
    arn = factory.pipeline(name="app", always=False, containerRecipeArn=f"{OWN}:container-recipe/managed/1.0.0")
    (image,) = factory.tick_at(NOON + HOUR)
    factory.finish(image)
    assert factory.tick_at(NOON + 2 * HOUR) == []
    assert "no dependency has an update" in factory.log(arn)


def test_overlap_skip_comes_before_the_condition(make_factory: MakeFactory) -> None:
    """While the first build runs, nothing is compared."""
    factory = make_factory(Schedules(overlap="skip"))
    factory.recipe()
    factory.infrastructure()
    arn = factory.pipeline(always=False)
    assert len(factory.tick_at(NOON + HOUR)) == 1
    assert factory.tick_at(NOON + 2 * HOUR) == []
    assert "AVAILABLE yet" not in factory.log(arn).splitlines()[-1]
