"""Names that are one name, documents of buckets, latest versions, quotas, profiles (spec/api.md 3, 4.4, 4.8)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import pytest

from imagesmith.settings import Quotas
from testing.api import DOCUMENT, REGION, TEMPLATE, Api, MakeApi
from testing.inhabited import inhabit, lifecycle_policy
from testing.loaded import service_model
from testing.refusals import refused


@pytest.fixture
def database_kind() -> str:
    """The store makes no difference to what is asserted here."""
    return "sqlite"


Make = Callable[[Api, str], object]
EXISTS: Final = "ResourceAlreadyExistsException"


def imported(api: Api, name: str) -> str:
    answer = api.client.import_component(
        name=name, semanticVersion="1.0.0", type="BUILD", format="SHELL", platform="Linux", data="echo hello"
    )
    return str(answer["componentBuildVersionArn"])


def imported_disk(api: Api, name: str) -> str:
    answer = api.client.import_vm_image(
        name=name, semanticVersion="1.0.0", platform="Linux", vmImportTaskId="s3://bucket/disk.qcow2"
    )
    return str(answer["imageArn"])


_NAMED: Final[dict[str, Make]] = {
    "container recipe": lambda api, name: api.recipe(name=name),
    "infrastructure": lambda api, name: api.infrastructure(name=name),
    "component": lambda api, name: api.component(name=name),
    "script": imported,
    "workflow": lambda api, name: api.workflow(name=name),
    "image recipe": lambda api, name: api.image_recipe(name=name),
    "pipeline": lambda api, name: api.pipeline(
        name=name, containerRecipeArn=api.arn("container-recipe", "one-container-recipe/1.0.0"),
        infrastructureConfigurationArn=api.arn("infrastructure-configuration", "one-infrastructure"),
    ),
    "distribution": lambda api, name: api.distribution(name=name),
    "policy": lifecycle_policy,
}  # fmt: skip


def test_names_that_differ_in_case_spaces_and_underscores_are_one(make_api: MakeApi) -> None:
    """For every kind that has a name; a disk that is imported is the next build of its version."""
    api = make_api()
    for kind, make in _NAMED.items():
        name = f"One {kind}"
        make(api, name)
        for spelling in (name.upper(), name.replace(" ", "_"), name.lower().replace(" ", "-")):
            with refused(EXISTS):
                make(api, spelling)
    assert imported_disk(api, "Disk One").endswith("/disk-one/1.0.0/1")
    assert imported_disk(api, "disk_ONE").endswith("/disk-one/1.0.0/2")


def test_a_name_is_free_in_another_region(make_api: MakeApi) -> None:
    """Names are unique in one account and Region."""
    from testing.api import client_for

    api = make_api()
    key = api.keys.keys[0]
    other = client_for(api.url, key.access_key_id, key.secret, region="us-east-1")
    for client in (api.client, other):
        arn = client.create_infrastructure_configuration(name="same", instanceProfileName="p")[
            "infrastructureConfigurationArn"
        ]
        assert client.get_infrastructure_configuration(infrastructureConfigurationArn=arn)
    other.close()


@pytest.mark.parametrize("bytes_over", [0, 1])
def test_documents_of_buckets_have_64_kilobytes(api: Api, bytes_over: int) -> None:
    """Components, scripts and templates; what was read stays, whatever becomes of the object."""
    limit = Quotas().document_bytes
    assert limit == 65536
    filler = "# " + "x" * 70_000
    texts = {
        name: (text + filler)[: limit + bytes_over]
        for name, text in (("component", DOCUMENT), ("script", "echo hello\n"), ("template", TEMPLATE))
    }
    api.sources |= {f"s3://bucket/{name}": text for name, text in texts.items()}
    version = {"semanticVersion": "1.0.0", "platform": "Linux"}

    def component() -> Any:
        return api.client.create_component(name="big", uri="s3://bucket/component", **version)

    def script() -> Any:
        return api.client.import_component(
            name="script", type="BUILD", format="SHELL", uri="s3://bucket/script", **version
        )

    def template() -> Any:
        return api.client.create_container_recipe(
            containerType="DOCKER", name="web", semanticVersion="1.0.0", parentImage="debian:12",
            dockerfileTemplateUri="s3://bucket/template",
            components=[{"componentArn": api.arn("component", "hello-world-linux/x.x.x", owner="aws")}],
            targetRepository={"service": "ECR", "repositoryName": "web"},
        )  # fmt: skip

    for create in (component, template):
        if bytes_over:
            with refused("InvalidParameterValueException") as refusal:
                create()
            assert "larger than 65536 bytes" in refusal.message
        else:
            create()
    if bytes_over:
        with refused("InvalidParameterValueException"):
            script()
        return
    api.sources.clear()
    recipe = api.client.get_container_recipe(containerRecipeArn=api.arn("container-recipe", "web/1.0.0"))
    assert recipe["containerRecipe"]["dockerfileTemplateData"] == texts["template"]
    stored = api.client.get_component(componentBuildVersionArn=api.arn("component", "big/1.0.0/1"))
    assert stored["component"]["data"] == texts["component"]


def test_lengths_are_counted_in_characters(api: Api) -> None:
    """1024 letters of two bytes are a description, one more is not."""
    api.infrastructure(name="long", description="\u00e4" * 1024)
    api.distribution(
        name="ami",
        distributions=[{"region": REGION, "amiDistributionConfiguration": {"description": "\u00e4" * 1024}}],
    )
    with refused("InvalidParameterValueException"):
        api.infrastructure(name="longer", description="\u00e4" * 1025)


def test_latest_versions_are_told_by_the_operations_that_have_them(make_api: MakeApi) -> None:
    """The four references, in the answers of the model that have the member and are about something versioned."""
    api = make_api()
    stored = inhabit(api)
    references = {
        "latestVersionArn": "x.x.x", "latestMajorVersionArn": "1.x.x", "latestMinorVersionArn": "1.0.x",
        "latestPatchVersionArn": "1.0.0",
    }  # fmt: skip
    reads = {
        "component": ("get_component", "componentBuildVersionArn"),
        "container-recipe": ("get_container_recipe", "containerRecipeArn"),
        "image-recipe": ("get_image_recipe", "imageRecipeArn"), "image": ("get_image", "imageBuildVersionArn"),
        "workflow": ("get_workflow", "workflowBuildVersionArn"),
    }  # fmt: skip
    for kind, (operation, member) in reads.items():
        answer = getattr(api.client, operation)(**{member: stored[kind]})
        slug = stored[kind].split("/1.0.0")[0]
        assert answer["latestVersionReferences"] == {
            name: f"{slug}/{version}" for name, version in references.items()
        }
    with_them = {
        name for name, it in service_model().operations.items() if "latestVersionReferences" in it.output.members
    }
    creates = {"CreateComponent", "CreateContainerRecipe", "CreateImage", "CreateImageRecipe", "CreateWorkflow"}
    assert with_them == creates | {name.replace("Create", "Get") for name in creates}


_QUOTAS: Final[tuple[tuple[str, int, Make], ...]] = (
    ("components", 1000, lambda api, name: api.component(name=name)),
    ("image_recipes", 1000, lambda api, name: api.image_recipe(name=name)),
    ("container_recipes", 1000, lambda api, name: api.recipe(name=name)),
    ("infrastructure_configurations", 1000, lambda api, name: api.infrastructure(name=name)),
    ("distribution_configurations", 1000, lambda api, name: api.distribution(name=name)),
    ("workflows", 1000, lambda api, name: api.workflow(name=name)),
    ("lifecycle_policies", 50, lifecycle_policy),
    ("image_pipelines", 75, lambda api, name: api.pipeline(
        name=name, containerRecipeArn=api.arn("container-recipe", "one/1.0.0"),
        infrastructureConfigurationArn=api.arn("infrastructure-configuration", "one"),
    )),
)  # fmt: skip


def test_every_kind_has_its_quota(make_api: MakeApi) -> None:
    """402 for one more than the setting, whose default is that of the service; a deletion makes room."""
    assert {name: getattr(Quotas(), name) for name, _, _ in _QUOTAS} == {name: it for name, it, _ in _QUOTAS}
    api = make_api(quotas=Quotas(**{name: 1 for name, _, _ in _QUOTAS}))
    for name, _, make in _QUOTAS:
        made = make(api, "one")
        with refused("ServiceQuotaExceededException") as refusal:
            make(api, "two")
        assert refusal.status == 402 and "limit of 1" in refusal.message, name
        assert made
    api.client.delete_workflow(workflowBuildVersionArn=api.arn("workflow", "test/one/1.0.0/1"))
    api.workflow(name="two")


def test_entries_of_documents_and_lists_have_their_quotas(make_api: MakeApi) -> None:
    """Parameters, components of a recipe, workflows of an image, accounts, templates and parameters of a Region."""
    defaults = {
        "components_per_recipe": 20, "parameters_per_component": 25, "parameter_value_characters": 1024,
        "workflows_per_image": 10, "target_accounts": 50, "launch_templates_per_region": 5,
        "ssm_parameters_per_region": 10, "resource_state_updates": 50,
    }  # fmt: skip
    assert {name: getattr(Quotas(), name) for name in defaults} == defaults
    api = make_api(quotas=Quotas(**dict.fromkeys(defaults, 1)))
    parameters = "".join(f"  - Param{index}:\n      type: string\n      default: x\n" for index in range(2))
    document = DOCUMENT.replace("phases:", f"parameters:\n{parameters}phases:")
    accounts = [f"{index:012}" for index in range(2)]
    entries: list[dict[str, Any]] = [
        {"amiDistributionConfiguration": {"targetAccountIds": accounts}},
        {"launchTemplateConfigurations": [{"launchTemplateId": f"lt-{index:017x}"} for index in range(2)]},
        {"ssmParameterConfigurations": [{"parameterName": f"/p{index}"} for index in range(2)]},
    ]
    workflow = {"workflowArn": api.workflow()}
    for number, create in enumerate(
        (
            partial(api.component, name="two", data=document),
            *(partial(api.distribution, distributions=[{"region": REGION, **entry}]) for entry in entries),
            partial(api.pipeline, workflows=[workflow, workflow], executionRole="r"),
        )
    ):
        with refused("ServiceQuotaExceededException") as refusal:
            create()
        assert "limit of 1" in refusal.message, number


def test_an_instance_profile_must_be_one_of_the_settings(make_api: MakeApi) -> None:
    """In the words that Terraform waits for; without such a setting any name will do."""
    api = make_api(instance_profiles=("builder",))
    arn = api.infrastructure(instanceProfileName="builder")
    expected = (
        "The value supplied for parameter 'instanceProfileName' is not valid. The provided instance profile does "
        "not exist. Please specify a different instance profile and try again."
    )
    with refused("InvalidParameterValueException") as refusal:
        api.infrastructure(name="other", instanceProfileName="unknown")
    assert refusal.message == expected
    with refused("InvalidParameterValueException") as refusal:
        api.client.update_infrastructure_configuration(
            infrastructureConfigurationArn=arn, instanceProfileName="unknown"
        )
    assert refusal.message == expected


def test_an_image_on_an_import_says_where_its_parent_came_from(api: Api) -> None:
    """imageSource is about the base image: IMPORTED one level above an imported disk, CUSTOM two levels above."""
    disk = imported_disk(api, "disk")
    api.set_state(disk, "AVAILABLE", digest="sha256:" + "1" * 64)
    infrastructure = api.infrastructure()

    def build(name: str, parent: str) -> dict[str, Any]:
        recipe = api.image_recipe(name=name, parentImage=parent)
        made = api.client.create_image(imageRecipeArn=recipe, infrastructureConfigurationArn=infrastructure)
        api.set_state(made["imageBuildVersionArn"], "AVAILABLE", digest="sha256:" + "2" * 64)
        return dict(api.client.get_image(imageBuildVersionArn=made["imageBuildVersionArn"])["image"])

    one = build("one", disk)
    two = build("two", one["arn"])
    assert (one["imageSource"], two["imageSource"]) == ("IMPORTED", "CUSTOM")
    assert "sourcePipelineName" not in one and "sourcePipelineArn" not in one
