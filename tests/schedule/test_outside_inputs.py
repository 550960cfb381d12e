"""Dependencies that are no resources of the API: registry tags that move, and stored parameters."""

from __future__ import annotations

import hashlib
import json
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from imagesmith.builds.outcomes import BuildOutcomes
from imagesmith.settings import Registry, Schedules
from imagesmith.store.parameters import ParameterRecord, delete_parameter, put_parameter
from testing.clock_support import ACCOUNT, NOON, OWN, REGION, Factory, MakeFactory
from testing.registry_support import HTPASSWD, PASSWORD, USER, RunningRegistry

HOUR = timedelta(hours=1)
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    running = RunningRegistry(tmp_path_factory.mktemp("registry"))
    running.start()
    yield running
    running.kill()


def put(registry: RunningRegistry, tag: str, content: str, *, kind: str = MANIFEST) -> str:
    """Let a tag name an index without images that holds some text, or an index of images; gives its digest."""
    data = content.encode()
    request = urllib.request.Request(
        f"http://{registry.host}/v2/base/manifests/{tag}", data=data, method="PUT", headers={"Content-Type": kind}
    )
    with urllib.request.urlopen(request, timeout=10):
        return f"sha256:{hashlib.sha256(data).hexdigest()}"


def empty_index(note: str) -> str:
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [], "annotations": {"note": note}})


@pytest.fixture
def tagged(make_factory: MakeFactory, registry: RunningRegistry) -> Factory:
    """A pipeline `app` on `REGISTRY/base:1`, with the switch on; its first image took the digest of now."""
    return settled(make_factory(Schedules(container_tag_updates=True), home(registry)), registry)


def home(registry: RunningRegistry) -> dict[str, Registry]:
    return {REGION: Registry(registry.host, insecure=True)}


def settled(factory: Factory, registry: RunningRegistry) -> Factory:
    digest = put(registry, "1", empty_index("first"), kind=INDEX)
    factory.recipe("app", parentImage=f"{registry.host}/base:1", components=[])
    factory.infrastructure()
    factory.pipeline(name="app", always=False, containerRecipeArn=f"{OWN}:container-recipe/app/1.0.0")
    (image,) = factory.tick_at(NOON + HOUR)
    BuildOutcomes(factory.database).keep_output(image, digest="", size=0, parent_digest=digest)
    factory.finish(image)
    return factory


APP = f"{OWN}:image-pipeline/app"


def test_a_tag_that_moved_is_an_update_when_the_switch_is_on(tagged: Factory, registry: RunningRegistry) -> None:
    """Nothing while it stands; both digests in the reason when it moved; nothing again once that was built."""
    assert tagged.tick_at(NOON + 2 * HOUR) == []
    before = put(registry, "1", empty_index("first"), kind=INDEX)
    after = put(registry, "1", empty_index("second"), kind=INDEX)
    (image,) = tagged.tick_at(NOON + 3 * HOUR)
    assert f"base {registry.host}/base:1 {before[:19]} -> {after[:19]}" in tagged.log(APP)
    BuildOutcomes(tagged.database).keep_output(image, digest="", size=0, parent_digest=after)
    tagged.finish(image)
    assert tagged.tick_at(NOON + 4 * HOUR) == []


def test_without_the_switch_no_registry_is_asked(make_factory: MakeFactory, registry: RunningRegistry) -> None:
    """A tag that moved is no update by default."""
    factory = settled(make_factory(registries=home(registry)), registry)
    put(registry, "1", empty_index("moved"), kind=INDEX)
    assert factory.tick_at(NOON + 2 * HOUR) == []
    assert factory.log(APP).count("no dependency has an update;") == 1


def test_a_registry_that_does_not_answer_starts_nothing_and_is_told(
    make_factory: MakeFactory, own_tag_registry: RunningRegistry
) -> None:
    """The tick is no failed run; another update still builds; and when the registry is back the tag counts."""
    factory = settled(make_factory(Schedules(container_tag_updates=True), home(own_tag_registry)), own_tag_registry)
    put(own_tag_registry, "1", empty_index("moved"), kind=INDEX)
    own_tag_registry.kill()
    assert factory.tick_at(NOON + 2 * HOUR) == []
    assert f"that is known; the tag {own_tag_registry.host}/base:1 cannot be read: " in factory.log(APP)
    assert factory.get(APP).document["consecutiveFailures"] == 0
    own_tag_registry.start()
    assert len(factory.tick_at(NOON + 3 * HOUR)) == 1


@pytest.fixture
def own_tag_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    running = RunningRegistry(tmp_path_factory.mktemp("registry"))
    running.start()
    yield running
    running.kill()


def test_a_tag_of_several_platforms_counts_by_the_image_for_this_one(
    make_factory: MakeFactory, own_tag_registry: RunningRegistry
) -> None:
    """A pull notes the digest of the platform's image: an index that only gained another platform is no update."""
    registry = own_tag_registry
    factory = settled(make_factory(Schedules(container_tag_updates=True), home(registry)), registry)
    images = {name: put(registry, name, empty_index(name), kind=INDEX) for name in ("old", "new", "arm")}

    def index(**platforms: str) -> str:
        entries = [
            {
                "mediaType": INDEX, "digest": images[image], "size": len(empty_index(image)),
                "platform": {"os": "linux", "architecture": architecture},
            }
            for architecture, image in platforms.items()
        ]  # fmt: skip
        return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries})

    put(registry, "1", index(amd64="old"), kind=INDEX)
    (image,) = factory.tick_at(NOON + 2 * HOUR)
    BuildOutcomes(factory.database).keep_output(image, digest="", size=0, parent_digest=images["old"])
    factory.finish(image)
    put(registry, "1", index(arm64="arm", amd64="old"), kind=INDEX)
    assert factory.tick_at(NOON + 3 * HOUR) == []
    put(registry, "1", index(arm64="arm", amd64="new"), kind=INDEX)
    assert len(factory.tick_at(NOON + 4 * HOUR)) == 1
    assert f"{images['old'][:19]} -> {images['new'][:19]}" in factory.log(APP)


def test_the_credentials_of_the_settings_are_used(make_factory: MakeFactory, tmp_path: Path) -> None:
    """A registry that wants a login answers with the user and password file of its entry, and not without."""
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "htpasswd").write_text(HTPASSWD)
    registry = RunningRegistry(tmp_path / "registry", login=True)
    registry.start()
    (tmp_path / "password").write_text(PASSWORD)
    try:
        for password, problem in ((PASSWORD, "manifest unknown"), ("wrong", "unauthorized")):
            (tmp_path / "password").write_text(password)
            entry = Registry(registry.host, USER, str(tmp_path / "password"), insecure=True)
            factory = make_factory(Schedules(container_tag_updates=True), {REGION: entry})
            look_up = factory.scheduler._look_up_tags
            assert look_up is not None
            (state,) = look_up([f"{registry.host}/base:none"]).values()
            assert problem in state.problem and password not in state.problem
    finally:
        registry.kill()


def test_every_pipeline_on_a_tag_asks_once_and_those_without_do_not_wait(
    tagged: Factory, registry: RunningRegistry
) -> None:
    """A tick asks for each tag once, after it has started what needs no answer."""
    scheduler, asked = tagged.scheduler, []
    real = scheduler._look_up_tags
    assert real is not None

    def noting(references: set[str]) -> object:
        asked.append((sorted(references), len(tagged.builds.started)))
        return real(references)

    scheduler._look_up_tags = noting  # type: ignore[assignment]
    for number in range(3):
        recipe = f"{OWN}:container-recipe/app/1.0.0"
        tagged.pipeline(name=f"a-{number}", always=False, containerRecipeArn=recipe)
    tagged.recipe("web")
    tagged.pipeline(name="plain")
    before = len(tagged.builds.started)
    assert len(tagged.tick_at(NOON + 2 * HOUR)) == 4
    assert asked == [([f"{registry.host}/base:1"], before + 1)]


def parameter(factory: Factory, value: str) -> None:
    with factory.database.write("edit") as tx:
        put_parameter(tx, ACCOUNT, REGION, ParameterRecord("/golden/debian", value, factory.clock()))


@pytest.mark.parametrize(
    "reference", ["ssm:/golden/debian", f"ssm:arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/golden/debian"]
)
def test_another_value_of_a_parameter_is_an_update(any_factory: Factory, reference: str) -> None:
    """The value is resolved at each start and recorded with the image; without one no image can be started."""
    factory = any_factory
    factory.call(
        "CreateImageRecipe", name="disk", semanticVersion="1.0.0", parentImage=reference,
        components=[{"componentArn": f"{OWN.replace(ACCOUNT, 'aws')}:component/hello-world-linux/x.x.x"}],
    )  # fmt: skip
    arn = str(
        factory.call(
            "CreateImagePipeline", name="disk", imageRecipeArn=f"{OWN}:image-recipe/disk/1.0.0",
            infrastructureConfigurationArn=f"{OWN}:infrastructure-configuration/infra",
            schedule={"scheduleExpression": "cron(0 * * * ? *)"},
        )["imagePipelineArn"]
    )  # fmt: skip
    assert factory.tick_at(NOON + HOUR) == []
    assert f"The parent image {reference} names a parameter that has no value" in factory.log(arn)
    parameter(factory, "ami-0123456789abcdef0")
    (image,) = factory.tick_at(NOON + 2 * HOUR)
    assert factory.get(image).document["imageRecipe"]["parentImage"] == "ami-0123456789abcdef0"
    factory.finish(image)
    assert factory.tick_at(NOON + 3 * HOUR) == []
    parameter(factory, "ami-0fedcba9876543210")
    (image,) = factory.tick_at(NOON + 4 * HOUR)
    factory.finish(image)
    assert f"base {reference} ami-0123456789abcdef0 -> ami-0fedcba9876543210" in factory.log(arn)
    with factory.database.write("edit") as tx:
        assert delete_parameter(tx, ACCOUNT, REGION, "/golden/debian")
        assert not delete_parameter(tx, ACCOUNT, REGION, "/golden/debian")
