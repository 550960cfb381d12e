"""Images over HTTP: create, read, cancel, delete, list."""

from __future__ import annotations

from imagesmith.store.events import newest_events
from imagesmith.store.revocations import Revocation, put_revocation, remove_revocation
from imagesmith.values.states import ImageStatus
from testing.api import ACCOUNT, REGION, Api, create
from testing.refusals import refused


def test_an_image_holds_resolved_copies_of_what_it_was_made_from(api: Api) -> None:
    """The recipe keeps its wildcards, the image's copy names the builds."""
    api.component()
    recipe = api.recipe(components=[{"componentArn": api.arn("component", "hello/x.x.x")}])
    arn = create(api, recipe, distributionConfigurationArn=api.distribution(), tags={"a": "b"})
    image = api.client.get_image(imageBuildVersionArn=arn)["image"]
    assert image["containerRecipe"]["components"] == [{"componentArn": api.arn("component", "hello/1.0.0/1")}]
    assert image["containerRecipe"]["parentImage"] == api.arn("image", "debian-x86-12/1.0.0/1", owner="aws")
    assert image["type"] == "DOCKER" and image["platform"] == "Linux"
    assert image["outputResources"] == {"containers": []}
    assert image["imageSource"] == "AMAZON_MANAGED" and image["osVersion"] == "Debian 12"
    assert image["distributionConfiguration"]["name"] == "dist"
    assert "sourcePipelineArn" not in image and "reason" not in image["state"]


def test_the_metadata_options_of_the_infrastructure_reach_the_machine(api: Api) -> None:
    """Session tokens are required where httpTokens says so, and only there."""
    recipe = api.image_recipe()
    for tokens in ("required", "optional"):
        infrastructure = api.infrastructure(name=tokens, instanceMetadataOptions={"httpTokens": tokens})
        made = api.client.create_image(imageRecipeArn=recipe, infrastructureConfigurationArn=infrastructure)
        plan = api.records.plan(made["imageBuildVersionArn"])
        assert plan is not None and plan.machine is not None
        assert plan.machine.tokens_required == (tokens == "required")


def test_what_means_nothing_here_is_in_the_plan_by_name(api: Api) -> None:
    """For the log: members of the infrastructure for both kinds, and what containers have no use for."""
    infrastructure = api.infrastructure(
        instanceTypes=["m5.large"], placement={"tenancy": "dedicated"}, keyPair="k",
        instanceMetadataOptions={"httpTokens": "required"},
    )  # fmt: skip
    both = ("infrastructure.instanceProfileName", "infrastructure.keyPair", "infrastructure.placement")
    devices = [{"deviceName": "/dev/xvda", "ebs": {"volumeSize": 100}}]
    container = api.recipe(name="boxed", instanceConfiguration={"blockDeviceMappings": devices}, kmsKeyId="alias/k")
    for member, recipe, unused in (
        ("imageRecipeArn", api.image_recipe(), both),
        (
            "containerRecipeArn", container,
            ("recipe.instanceConfiguration", "recipe.kmsKeyId", *both, "infrastructure.instanceTypes",
             "infrastructure.instanceMetadataOptions"),
        ),
    ):  # fmt: skip
        made = api.client.create_image(**{member: recipe}, infrastructureConfigurationArn=infrastructure)
        plan = api.records.plan(made["imageBuildVersionArn"])
        assert plan is not None and plan.unused == unused


def test_entries_for_images_of_the_other_kind_are_in_the_plan_by_name(api: Api) -> None:
    """A container goes nowhere by settings for AMIs, nor a machine by those for containers."""
    entries = [
        {"region": "us-east-1", "amiDistributionConfiguration": {}},
        {
            "region": "eu-west-1", "amiDistributionConfiguration": {},
            "containerDistributionConfiguration": {"targetRepository": {"service": "ECR", "repositoryName": "r"}},
        },
    ]  # fmt: skip
    distribution, infrastructure = api.distribution(distributions=entries), api.infrastructure()
    for member, recipe, unused in (
        ("imageRecipeArn", api.image_recipe(), ("distributions[1].containerDistributionConfiguration",)),
        (
            "containerRecipeArn", api.recipe(),
            ("distributions[0].amiDistributionConfiguration", "distributions[1].amiDistributionConfiguration"),
        ),
    ):  # fmt: skip
        made = api.client.create_image(
            **{member: recipe}, infrastructureConfigurationArn=infrastructure,
            distributionConfigurationArn=distribution,
        )  # fmt: skip
        plan = api.records.plan(made["imageBuildVersionArn"])
        assert plan is not None and plan.unused == ("infrastructure.instanceProfileName", *unused)


def test_a_version_arn_resolves_to_the_newest_available_build(api: Api) -> None:
    """Running and failed builds never resolve."""
    recipe = api.recipe()
    first, second, _third = (create(api, recipe) for _ in range(3))
    with refused("ResourceNotFoundException"):
        api.client.get_image(imageBuildVersionArn=api.arn("image", "web/1.0.0"))
    api.set_state(first, "AVAILABLE")
    api.set_state(second, "FAILED")
    for path in ("web/1.0.0", "web/x.x.x"):
        got = api.client.get_image(imageBuildVersionArn=api.arn("image", path))
        assert got["image"]["arn"] == first


def test_an_available_image_can_be_the_parent_of_another(api: Api) -> None:
    """With a wildcard, the plan takes the artifact of the newest available build; an exact parent is protected."""
    base = create(api, api.recipe(name="base"))
    api.set_state(base, "AVAILABLE", digest="sha256:abc")
    child = create(api, api.recipe(name="child", parentImage=api.arn("image", "base/x.x.x")))
    plan = api.records.plan(child)
    assert plan is not None and (plan.parent.reference, plan.parent.digest) == (base, "sha256:abc")
    api.recipe(name="pinned", parentImage=base)
    with refused("ResourceDependencyException"):
        api.client.delete_image(imageBuildVersionArn=base)


def test_a_revoked_image_and_its_children_are_no_parents(api: Api) -> None:
    """The refusal has the reason, and for a child the image that it inherits from, until that is withdrawn."""
    base = create(api, api.recipe(name="base"))
    api.set_state(base, "AVAILABLE", digest="sha256:abc")
    child = create(api, api.recipe(name="child", parentImage=base))
    api.set_state(child, "AVAILABLE", digest="sha256:def")
    recipes = {
        parent: api.recipe(name=f"on-{number}", parentImage=parent) for number, parent in enumerate((base, child))
    }
    with api.database.write(f"{ACCOUNT}/{REGION}") as tx:
        put_revocation(tx, Revocation(base, "leaked key", "ann", api.clock()))
    for parent, recipe in recipes.items():
        with refused("InvalidRequestException") as refusal:
            create(api, recipe)
        assert f"{parent} is revoked" in refusal.message and "leaked key" in refusal.message
    with api.database.write(f"{ACCOUNT}/{REGION}") as tx:
        assert remove_revocation(tx, base)
    assert create(api, recipes[child])


def test_cancelling_a_waiting_build_is_immediate_and_twice_is_an_error(api: Api) -> None:
    """A PENDING image becomes CANCELLED; a terminal one cannot be cancelled."""
    arn = create(api, api.recipe())
    assert api.client.cancel_image_creation(imageBuildVersionArn=arn)["imageBuildVersionArn"] == arn
    assert api.client.get_image(imageBuildVersionArn=arn)["image"]["state"]["status"] == "CANCELLED"
    assert api.builds.cancelled == [arn]
    with api.database.read() as tx:
        (event,) = newest_events(tx, ACCOUNT, REGION, 10)
    assert event.resources == (arn,)
    assert event.detail == {"previous-state": {"status": "PENDING"}, "state": {"status": "CANCELLED"}}
    with refused("InvalidParameterValueException") as refusal:
        api.client.cancel_image_creation(imageBuildVersionArn=arn)
    assert "terminal state" in refusal.message


def test_cancelling_a_running_build_asks_it_to_stop(api: Api) -> None:
    """The state follows when the build stopped; asking again is a success."""
    arn = create(api, api.recipe())
    api.records.move(arn, ImageStatus.BUILDING)
    for _ in range(2):
        api.client.cancel_image_creation(imageBuildVersionArn=arn)
    assert api.records.is_cancelled(arn)
    assert api.client.get_image(imageBuildVersionArn=arn)["image"]["state"]["status"] == "BUILDING"


def test_only_a_finished_image_can_be_deleted(api: Api) -> None:
    """A running build is a dependency error; afterwards the record is gone."""
    arn = create(api, api.recipe())
    with refused("ResourceDependencyException"):
        api.client.delete_image(imageBuildVersionArn=arn)
    api.set_state(arn, "AVAILABLE")
    api.client.delete_image(imageBuildVersionArn=arn)
    with refused("ResourceNotFoundException"):
        api.client.get_image(imageBuildVersionArn=arn)
    assert api.client.list_images()["imageVersionList"] == []


def test_images_are_listed_by_version_name_and_build(api: Api) -> None:
    """Filters, byName and build versions."""
    recipe = api.recipe()
    arns = [create(api, recipe), create(api, recipe), create(api, api.recipe(version="1.1.0"))]
    versions = api.client.list_images()["imageVersionList"]
    assert [item["version"] for item in versions] == ["1.1.0", "1.0.0"]
    (name,) = api.client.list_images(byName=True)["imageVersionList"]
    assert name["arn"] == api.arn("image", "web/x.x.x") and name["version"] == "1.1.0"
    builds = api.client.list_image_build_versions(imageVersionArn=api.arn("image", "web/1.0.0"))
    assert [item["arn"] for item in builds["imageSummaryList"]] == [arns[1], arns[0]]
    only = api.client.list_image_build_versions(filters=[{"name": "version", "values": ["1.1.0"]}])
    assert [item["arn"] for item in only["imageSummaryList"]] == [arns[2]]
    pages = api.client.get_paginator("list_images").paginate(owner="Amazon")
    managed = [item for page in pages for item in page["imageVersionList"]]
    assert "debian-x86-12" in [item["name"] for item in managed]


def test_the_packages_of_an_image_are_paged(api: Api) -> None:
    """Pages follow each other; an image without inventory has an empty list; an unknown image is a 404."""
    arn = create(api, api.recipe())
    assert api.client.list_image_packages(imageBuildVersionArn=arn)["imagePackageList"] == []
    packages = [{"name": f"p{number}", "version": "1"} for number in range(60)]
    api.inspections.put_inventory(arn, packages, os_version="Debian 12")
    pages = api.client.get_paginator("list_image_packages").paginate(imageBuildVersionArn=arn)
    names = [item["packageName"] for page in pages for item in page["imagePackageList"]]
    assert names == [item["name"] for item in packages]
    with refused("ResourceNotFoundException"):
        api.client.list_image_packages(imageBuildVersionArn=api.arn("image", "none/1.0.0/1"))


def test_a_disabled_component_stops_a_run(api: Api) -> None:
    """Existing recipes with a disabled component cannot be built, and no image is made."""
    from dataclasses import replace

    from imagesmith.store import queries

    arn = api.component()
    recipe = api.recipe(components=[{"componentArn": arn}])
    with api.database.write("s") as tx:
        record = queries.get(tx, arn)
        assert record is not None
        queries.replace(tx, replace(record, status="DISABLED"))
    with refused("InvalidRequestException"):
        create(api, recipe)
    pipeline = api.pipeline(containerRecipeArn=recipe)
    with refused("InvalidRequestException"):
        api.client.start_image_pipeline_execution(imagePipelineArn=pipeline)
    assert api.builds.started == []
