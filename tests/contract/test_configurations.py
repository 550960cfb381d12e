"""Infrastructure and distribution configurations over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from testing.api import REGION, Api
from testing.refusals import refused

CONTAINER = {"targetRepository": {"service": "ECR", "repositoryName": "web"}}


def test_an_infrastructure_configuration_has_its_defaults_and_no_date_of_update(api: Api) -> None:
    """terminateInstance* are true; dateUpdated appears with the first update."""
    arn = api.infrastructure()
    got = dict(
        api.client.get_infrastructure_configuration(infrastructureConfigurationArn=arn)[
            "infrastructureConfiguration"
        ]
    )
    assert got.pop("dateCreated").endswith("Z")
    assert got == {
        "arn": arn, "name": "infra", "instanceProfileName": "profile", "terminateInstanceOnFailure": True,
        "terminateInstanceOnCompletion": True, "tags": {},
    }  # fmt: skip
    api.client.update_infrastructure_configuration(
        infrastructureConfigurationArn=arn, instanceProfileName="p2", terminateInstanceOnFailure=False
    )
    got = dict(
        api.client.get_infrastructure_configuration(infrastructureConfigurationArn=arn)[
            "infrastructureConfiguration"
        ]
    )
    assert got["terminateInstanceOnFailure"] is False and got["dateUpdated"] > got["dateCreated"]


def test_updates_replace_the_whole_configuration(api: Api) -> None:
    """Members that are not sent are gone; name and tags stay."""
    arn = api.infrastructure(description="d", instanceTypes=["m5.large"], keyPair="k", tags={"a": "b"})
    api.client.update_infrastructure_configuration(infrastructureConfigurationArn=arn, instanceProfileName="p2")
    got = api.client.get_infrastructure_configuration(infrastructureConfigurationArn=arn)[
        "infrastructureConfiguration"
    ]
    assert not {"description", "instanceTypes", "keyPair"} & got.keys()
    assert (got["name"], got["tags"]) == ("infra", {"a": "b"})


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"subnetId": "subnet-1"}, "InvalidParameterCombinationException"),
        ({"placement": {"tenancy": "default", "hostId": "h"}}, "InvalidParameterCombinationException"),
        (
            {"placement": {"tenancy": "host", "hostId": "h", "hostResourceGroupArn": "g"}},
            "InvalidParameterCombinationException",
        ),
        ({"resourceTags": {"CreatedBy": "me"}}, "InvalidParameterValueException"),
        ({"parentInstance": {"autoScalingGroup": {"name": "group"}}}, "InvalidRequestException"),
        ({"snsTopicArn": f"arn:aws:sns:{REGION}:123456789012:x.fifo"}, "InvalidParameterValueException"),
    ],
)
def test_rules_of_an_infrastructure_configuration(api: Api, members: dict[str, Any], code: str) -> None:
    """Each broken rule has its code, on create and on update."""
    with refused(code):
        api.infrastructure(**members)
    arn = api.infrastructure(name="other")
    with refused(code):
        api.client.update_infrastructure_configuration(
            infrastructureConfigurationArn=arn, instanceProfileName="p", **members
        )


def test_an_instance_of_somebody_else_is_refused_by_its_name(api: Api) -> None:
    """The text names the member and tells what to do."""
    with refused("InvalidRequestException") as refusal:
        api.infrastructure(parentInstance={"autoScalingGroup": {"name": "group"}})
    assert "parentInstance cannot be used" in refusal.message and "Leave parentInstance out" in refusal.message


def test_a_distribution_configuration_keeps_its_regions_in_order(api: Api) -> None:
    """The summary lists them; the unused timeout is 720."""
    regions = ["us-east-1", "eu-west-1", "ap-south-1"]
    arn = api.distribution(
        distributions=[{"region": region, "containerDistributionConfiguration": CONTAINER} for region in regions]
    )
    got = api.client.get_distribution_configuration(distributionConfigurationArn=arn)["distributionConfiguration"]
    assert got["timeoutMinutes"] == 720 and "dateUpdated" not in got
    assert [entry["region"] for entry in got["distributions"]] == regions
    (summary,) = api.client.list_distribution_configurations()["distributionConfigurationSummaryList"]
    assert summary["regions"] == regions


@pytest.mark.parametrize(
    ("distributions", "code"),
    [
        (
            [
                {"region": "r", "amiDistributionConfiguration": {}},
                {"region": "r", "amiDistributionConfiguration": {}},
            ],
            "InvalidParameterValueException",
        ),
        ([{"region": "r"}], "InvalidParameterValueException"),
        ([{"region": "r", "amiDistributionConfiguration": {}}, {"region": "s"}], "InvalidParameterValueException"),
        (
            [{"region": "r", "amiDistributionConfiguration": {"name": "fixed"}}],
            "InvalidParameterValueException",
        ),
        (
            [{"region": "r", "amiDistributionConfiguration": {"launchPermission": {"userGroups": ["some"]}}}],
            "InvalidParameterValueException",
        ),
        (
            [
                {
                    "region": "r",
                    "fastLaunchConfigurations": [
                        {
                            "enabled": True,
                            "launchTemplate": {
                                "launchTemplateId": "lt-0123456789abcdef0",
                                "launchTemplateName": "n",
                            },
                        }
                    ],
                }
            ],
            "InvalidParameterCombinationException",
        ),
    ],
)
def test_rules_of_a_distribution_configuration(api: Api, distributions: list[Any], code: str) -> None:
    """Each broken rule has its code and stores nothing."""
    with refused(code):
        api.distribution(distributions=distributions)
    assert api.rows() == 0


@pytest.mark.parametrize(
    "region", ["xx y", "EU-west-1", "eu_west_1", "../x", "eu-west-1\n", " r", "é", "1r", "r" * 64]
)
def test_a_region_has_the_form_of_one(api: Api, region: str) -> None:
    """It becomes a part of ARNs and names of registries; what no client could sign for is refused by its path."""
    ami: dict[str, Any] = {"amiDistributionConfiguration": {}}
    with refused("InvalidParameterValueException") as refusal:
        api.distribution(distributions=[{"region": "r", **ami}, {"region": region, **ami}])
    assert "'distributions[1].region'" in refusal.message and "is not a Region" in refusal.message
    assert api.rows() == 0


def test_an_entry_with_only_a_region_is_refused_with_the_words_of_the_service(api: Api) -> None:
    """At creation and at an update, which then changes nothing."""
    expected = (
        "The value supplied for parameter 'distributions[1]' is not valid. "
        "One or more outputs should be provided for each region in a distribution configuration."
    )
    wrong = [{"region": "r", "amiDistributionConfiguration": {}}, {"region": "s"}]
    with refused("InvalidParameterValueException") as refusal:
        api.distribution(distributions=wrong)
    assert refusal.message == expected
    arn = api.distribution(distributions=wrong[:1])
    with refused("InvalidParameterValueException") as refusal:
        api.client.update_distribution_configuration(
            distributionConfigurationArn=arn, distributions=wrong, clientToken="t"
        )
    assert refusal.message == expected


def test_the_name_of_an_ami_may_space_its_build_date_or_not(api: Api) -> None:
    """Blanks inside the braces are optional."""
    for number, name in enumerate(("a {{ imagebuilder:buildDate }}", "a {{imagebuilder:buildDate}}")):
        api.distribution(
            name=f"dist-{number}",
            distributions=[{"region": "r", "amiDistributionConfiguration": {"name": name}}],
        )


def test_configurations_in_use_cannot_be_deleted(api: Api) -> None:
    """A pipeline protects both; an image does not, it holds a copy."""
    infrastructure, distribution = api.infrastructure(), api.distribution()
    arn = api.pipeline(infrastructureConfigurationArn=infrastructure, distributionConfigurationArn=distribution)
    api.client.start_image_pipeline_execution(imagePipelineArn=arn)
    with refused("ResourceDependencyException"):
        api.client.delete_infrastructure_configuration(infrastructureConfigurationArn=infrastructure)
    with refused("ResourceDependencyException"):
        api.client.delete_distribution_configuration(distributionConfigurationArn=distribution)
    api.client.delete_image_pipeline(imagePipelineArn=arn)
    api.client.delete_infrastructure_configuration(infrastructureConfigurationArn=infrastructure)
    api.client.delete_distribution_configuration(distributionConfigurationArn=distribution)
    with refused("ResourceNotFoundException"):
        api.client.delete_distribution_configuration(distributionConfigurationArn=distribution)
