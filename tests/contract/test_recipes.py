"""Container recipes and image recipes over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from testing.api import ACCOUNT, DOCUMENT, PARAMETER_DOCUMENT, TEMPLATE, Api, MakeApi
from testing.refusals import refused

WINDOWS = """\
schemaVersion: 1.0
phases:
  - name: build
    steps:
      - name: Hello
        action: ExecutePowerShell
        inputs:
          commands: ["echo hello"]
"""
ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"


def test_a_container_recipe_reads_back_as_sent(api: Api) -> None:
    """References stay verbatim, the platform comes from the parent, encrypted is true."""
    component = api.component()
    arn = api.recipe(description="d", components=[{"componentArn": component}], workingDirectory="/work")
    recipe = dict(api.client.get_container_recipe(containerRecipeArn=arn)["containerRecipe"])
    assert recipe.pop("dateCreated").endswith("Z")
    assert recipe == {
        "arn": arn, "containerType": "DOCKER", "name": "web", "description": "d", "platform": "Linux",
        "owner": ACCOUNT, "version": "1.0.0", "components": [{"componentArn": component}],
        "dockerfileTemplateData": TEMPLATE, "encrypted": True, "workingDirectory": "/work", "tags": {},
        "parentImage": api.arn("image", "debian-x86-12/x.x.x", owner="aws"),
        "targetRepository": {"service": "ECR", "repositoryName": "web"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("existing", "asked", "got"),
    [
        ([], "1.x.0", "1.0.0"),
        (["1.0.0"], "1.x.0", "1.1.0"),
        (["1.9.0", "1.10.0"], "1.x.x", "1.11.0"),
        (["1.0.0"], "x.x.x", "2.0.0"),
        (["2.0.0"], "1.0.x", "1.0.0"),
    ],
)
def test_x_takes_the_next_number(api: Api, existing: list[str], asked: str, got: str) -> None:
    """The first x becomes the highest number plus one, later ones 0."""
    for version in existing:
        api.recipe(version=version)
    assert api.recipe(version=asked).endswith(f"/{got}")


def test_an_automatic_number_does_not_come_back_after_a_delete(api: Api) -> None:
    """The number of a deleted version is not used again."""
    arn = api.recipe(version="1.x.0")
    api.client.delete_container_recipe(containerRecipeArn=arn)
    assert api.recipe(version="1.x.0").endswith("/1.1.0")


def test_a_recipe_version_exists_once_but_both_kinds_may_share_a_name(api: Api) -> None:
    """The message is the service's own."""
    api.image_recipe(name="web")
    arn = api.recipe(name="web")
    with refused("ResourceAlreadyExistsException") as refusal:
        api.recipe(name="WEB")
    assert refusal.message == f"The following resource 'ContainerRecipe' already exists: '{arn}'."


def test_recipes_resolve_by_wildcard(api: Api) -> None:
    """Get with a wildcard gives the concrete ARN of the highest version."""
    api.recipe(version="1.2.0")
    arn = api.recipe(version="1.10.0")
    got = api.client.get_container_recipe(containerRecipeArn=api.arn("container-recipe", "web/1.x.x"))
    assert got["containerRecipe"]["arn"] == arn


def test_a_recipe_in_use_cannot_be_deleted(api: Api) -> None:
    """An exact reference of a pipeline protects; delete refuses wildcards."""
    arn = api.recipe()
    pipeline = api.pipeline(containerRecipeArn=arn)
    with refused("ResourceDependencyException") as refusal:
        api.client.delete_container_recipe(containerRecipeArn=arn)
    assert refusal.message == (
        f"Resource dependency error: The resource ARN '{arn}' has other resources depended on it."
    )
    api.client.delete_image_pipeline(imagePipelineArn=pipeline)
    with refused("InvalidParameterValueException"):
        api.client.delete_container_recipe(containerRecipeArn=api.arn("container-recipe", "web/x.x.x"))
    api.client.delete_container_recipe(containerRecipeArn=arn)
    disk = api.image_recipe()
    pipeline = api.pipeline(name="disks", imageRecipeArn=disk)
    with refused("ResourceDependencyException"):
        api.client.delete_image_recipe(imageRecipeArn=disk)
    api.client.delete_image_pipeline(imagePipelineArn=pipeline)
    api.client.delete_image_recipe(imageRecipeArn=disk)


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ([], "need one: Name"),
        (
            [{"name": "Name", "value": ["n"]}, {"name": "Wrong", "value": ["w"]}],
            "The following parameters are not defined in the provided component: Wrong",
        ),
    ],
)
def test_component_parameters_are_checked(api: Api, parameters: list[Any], text: str) -> None:
    """Missing and unknown ones are refused with the component's path."""
    entry = {"componentArn": api.component(data=PARAMETER_DOCUMENT), "parameters": parameters}
    if not parameters:
        del entry["parameters"]
    with refused("InvalidParameterCombinationException") as refusal:
        api.recipe(components=[entry])
    assert "'components[0].parameters'" in refusal.message and text in refusal.message


CHOICES = PARAMETER_DOCUMENT.replace("default: hello\n", "default: hello\n      allowedValues: [hello, bye]\n")
NAME = {"name": "Name", "value": ["n"]}


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ([NAME, NAME], "The parameter 'Name' is given twice"),
        ([{"name": "Name", "value": ["a", "b"]}], "The parameter 'Name' takes one string, 2 are given"),
        ([{"name": "Name", "value": []}], "The parameter 'Name' takes one string, 0 are given"),
        ([NAME, {"name": "Greeting", "value": ["moin"]}], "'Greeting' is not allowed; allowed values: hello, bye"),
        ([NAME, {"name": "greeting", "value": ["bye"]}], "not defined in the provided component: greeting"),
    ],
)
@pytest.mark.parametrize("machine", [False, True])
def test_values_of_component_parameters_are_checked(
    api: Api, parameters: list[Any], text: str, machine: bool
) -> None:
    """One value each, each name once, and only what the document allows; in both kinds of recipes."""
    entry = {"componentArn": api.component(data=CHOICES), "parameters": parameters}
    with refused("InvalidParameterCombinationException") as refusal:
        made(api, [entry], machine=machine)
    assert "'components[0].parameters'" in refusal.message and text in refusal.message


def made(api: Api, components: list[Any], *, machine: bool) -> None:
    if machine:
        api.client.create_image_recipe(
            name="disk", semanticVersion="1.0.0", parentImage="ami-0123456789abcdef0", components=components
        )
    else:
        api.recipe(components=components)


STEPS = DOCUMENT.split("  - name: build\n")[1]


@pytest.mark.parametrize("phase", ["container-host-test", "Test", "verify", "cleanup", "BUILD", "tests"])
@pytest.mark.parametrize("machine", [False, True])
def test_a_component_whose_phases_no_build_runs_is_refused(api: Api, phase: str, machine: bool) -> None:
    """By the name of the phase, with what was meant; the host's phase means nothing in an image recipe anyway."""
    arn = api.component(data=f"{DOCUMENT}  - name: {phase}\n{STEPS}")
    if machine and phase == "container-host-test":
        made(api, [{"componentArn": arn}], machine=True)
        return
    with refused("InvalidParameterCombinationException") as refusal:
        made(api, [{"componentArn": arn}], machine=machine)
    assert "'components[0].componentArn'" in refusal.message
    assert f"the phase '{phase}'" in refusal.message and "(hint: " in refusal.message


def test_a_component_is_listed_once_whatever_its_version(api: Api) -> None:
    """Two versions of one component in a recipe are refused."""
    arns = [api.component(), api.component(version="1.1.0")]
    with refused("InvalidParameterValueException") as refusal:
        api.recipe(components=[{"componentArn": arn} for arn in arns])
    assert "'components[1].componentArn'" in refusal.message


def test_a_component_must_fit_the_parent(api: Api) -> None:
    """Another operating system version is refused."""
    arn = api.component(supportedOsVersions=["Ubuntu"])
    with refused("InvalidParameterCombinationException"):
        api.recipe(components=[{"componentArn": arn}])


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("FROM scratch\n{{{ imagebuilder:environments }}}\n", "parentImage"),
        ("FROM {{{ imagebuilder:parentImage }}}\n", "environments"),
        (
            "FROM {{{imagebuilder:parentImage}}}\n{{{imagebuilder:components}}}\n{{{imagebuilder:environments}}}\n",
            "environments",
        ),
    ],
)
def test_a_template_without_its_variables_is_refused(api: Api, template: str, text: str) -> None:
    """parentImage always, environments when there are components, components after environments."""
    with refused("InvalidParameterValueException") as refusal:
        api.recipe(dockerfileTemplateData=template, components=[{"componentArn": api.component()}])
    assert "'dockerfileTemplateData'" in refusal.message and text in refusal.message


def test_a_template_may_come_from_s3(api: Api) -> None:
    """The content is stored and returned, the URI is not."""
    api.sources["s3://bucket/Dockerfile"] = TEMPLATE
    arn = api.client.create_container_recipe(
        containerType="DOCKER", name="web", semanticVersion="1.0.0", dockerfileTemplateUri="s3://bucket/Dockerfile",
        parentImage="registry.example/base:1", targetRepository={"service": "ECR", "repositoryName": "web"},
        components=[{"componentArn": api.component()}],
    )["containerRecipeArn"]  # fmt: skip
    recipe = api.client.get_container_recipe(containerRecipeArn=arn)["containerRecipe"]
    assert recipe["dockerfileTemplateData"] == TEMPLATE
    assert "dockerfileTemplateUri" not in recipe


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"parentImage": "public.ecr.aws/debian/debian:12"}, "InvalidParameterCombinationException"),
        ({"parentImage": f"{ECR}/win:1", "platformOverride": "Windows"}, "InvalidParameterCombinationException"),
        ({"parentImage": "win:1", "platformOverride": "Windows"}, "InvalidParameterCombinationException"),
        ({"parentImage": "12.dkr.ecr.eu-west-1.amazonaws.com/x"}, "InvalidParameterValueException"),
        *(
            ({"targetRepository": {"service": "ECR", "repositoryName": name}}, "InvalidParameterValueException")
            for name in ("Web", "web/", "/web", "a//b", "a..b", "a___b", "-a", "a b", "web:1", "a" * 256, "\u00e4")
        ),
        ({"parentImage": "ami-0123456789abcdef0"}, "InvalidParameterValueException"),
        ({"parentImage": "Not A Reference!"}, "InvalidParameterValueException"),
        ({"platformOverride": "macOS"}, "InvalidParameterValueException"),
        ({"semanticVersion": "1.0"}, "InvalidParameterValueException"),
        ({"semanticVersion": "1.0.1073741824"}, "InvalidVersionNumberException"),
    ],
)
def test_bad_recipes_are_refused(api: Api, members: dict[str, Any], code: str) -> None:
    """Each with its own code, and nothing is stored."""
    component = api.component()
    stored = api.rows()
    request: dict[str, Any] = {
        "containerType": "DOCKER", "name": "web", "semanticVersion": "1.0.0", "dockerfileTemplateData": TEMPLATE,
        "parentImage": api.arn("image", "debian-x86-12/x.x.x", owner="aws"),
        "targetRepository": {"service": "ECR", "repositoryName": "web"},
        "components": [{"componentArn": component}], **members,
    }  # fmt: skip
    with refused(code):
        api.client.create_container_recipe(**request)
    assert api.rows() == stored


def test_a_windows_parent_of_a_registry_says_what_it_lacks(api: Api) -> None:
    """In the service's words; with the version it is taken."""
    with refused("InvalidParameterCombinationException") as refusal:
        api.recipe(parentImage=f"{ECR}/win:1", platformOverride="Windows")
    assert refusal.message.endswith(
        "You must specify an image OsVersion override when using ECR Repositories as your parent image for Windows "
        "Platform."
    )
    component = api.component(name="win", platform="Windows", data=WINDOWS)
    api.recipe(
        name="win", parentImage=f"{ECR}/win:1", platformOverride="Windows",
        imageOsVersionOverride="Microsoft Windows Server 2019", components=[{"componentArn": component}],
    )  # fmt: skip


@pytest.mark.parametrize("name", ["a", "a/b/c", "a.b_c__d---e", "0", "x" * 255])
def test_names_of_repositories_are_taken(api: Api, name: str) -> None:
    """Everything that registries take."""
    api.recipe(targetRepository={"service": "ECR", "repositoryName": name})


def test_an_unknown_parent_arn_is_a_404(api: Api) -> None:
    """The ARN as given is in the message."""
    missing = api.arn("image", "no-such-base/x.x.x", owner="aws")
    with refused("ResourceNotFoundException") as refusal:
        api.recipe(parentImage=missing)
    assert refusal.message == f"The following required resource 'Image' cannot be found: '{missing}'."


def test_a_recipe_over_the_component_quota_is_refused(make_api: MakeApi) -> None:
    """Twenty components by default, fewer here."""
    from imagesmith.settings import Quotas

    api = make_api(quotas=Quotas(components_per_recipe=1))
    arns = [api.component(), api.component(name="two", data=DOCUMENT.replace("hello", "two"))]
    with refused("ServiceQuotaExceededException"):
        api.recipe(components=[{"componentArn": arn} for arn in arns])


def test_an_image_recipe_keeps_its_block_devices_verbatim(api: Api) -> None:
    """The empty noDevice stays the empty string, order stays."""
    devices = [
        {"deviceName": "/dev/xvda", "ebs": {"volumeSize": 20}},
        {"deviceName": "/dev/xvdb", "noDevice": ""},
        {"virtualName": "ephemeral0"},
    ]
    arn = api.image_recipe(blockDeviceMappings=devices)
    recipe = api.client.get_image_recipe(imageRecipeArn=arn)["imageRecipe"]
    assert recipe["blockDeviceMappings"] == devices
    assert "workingDirectory" not in recipe and "type" not in recipe
    listed = api.client.list_image_recipes(filters=[{"name": "platform", "values": ["Linux"]}])
    assert [item["arn"] for item in listed["imageRecipeSummaryList"]] == [arn]
    api.client.delete_image_recipe(imageRecipeArn=arn)
    with refused("ResourceNotFoundException"):
        api.client.get_image_recipe(imageRecipeArn=arn)


@pytest.mark.parametrize(
    ("devices", "words"),
    [
        ([{"deviceName": "/dev/sdb", "ebs": {"snapshotId": "snap-0123456789abcdef0"}}], "[0].ebs.snapshotId"),
        (
            [{"deviceName": "/dev/xvda", "ebs": {"volumeSize": 2049}}],
            "[0].ebs.volumeSize' is not valid. It is 2049 GiB",
        ),
        ([{"deviceName": "/dev/xvda", "ebs": {"volumeSize": 9}}, {"deviceName": "/dev/sda1"}], "[1].deviceName"),
        ([{"deviceName": "/dev/sdb"}, {"deviceName": "/dev/sdb", "noDevice": ""}], "[1].deviceName"),
    ],
)
def test_block_devices_that_cannot_be_had_are_refused_by_name(api: Api, devices: list[Any], words: str) -> None:
    """Volumes of snapshots, sizes over that of any disk here, two mappings for one device."""
    with refused("InvalidParameterValueException") as refusal:
        api.image_recipe(blockDeviceMappings=devices)
    assert f"blockDeviceMappings{words}" in refusal.message


@pytest.mark.parametrize(
    ("gibibytes", "form", "fits"), [(2040, "VHD", True), (2041, "VHD", False), (2041, "VMDK", True)]
)
def test_an_export_that_cannot_hold_the_disk_is_refused_before_any_build(
    api: Api, gibibytes: int, form: str, fits: bool
) -> None:
    """A pipeline and an image say so when they are created: recipe and distribution tell size and format."""
    export = {"roleName": "export", "diskImageFormat": form, "s3Bucket": "disks"}
    members: dict[str, Any] = {
        "imageRecipeArn": api.image_recipe(
            blockDeviceMappings=[{"deviceName": "/dev/xvda", "ebs": {"volumeSize": gibibytes}}]
        ),
        "infrastructureConfigurationArn": api.infrastructure(),
        "distributionConfigurationArn": api.distribution(
            distributions=[{"region": "us-east-1", "s3ExportConfiguration": export}]
        ),
    }
    if fits:
        api.pipeline(**members)
        return
    for call in (lambda: api.pipeline(**members), lambda: api.client.create_image(**members)):
        with refused("InvalidParameterCombinationException") as refusal:
            call()
        assert "2041.0 GiB, and a vhd disk has at most 2040.0 GiB" in refusal.message


def test_user_data_must_be_base64(api: Api) -> None:
    """What does not decode is refused with its path."""
    with refused("InvalidParameterValueException") as refusal:
        api.image_recipe(additionalInstanceConfiguration={"userDataOverride": "%%%"})
    assert "additionalInstanceConfiguration.userDataOverride" in refusal.message
