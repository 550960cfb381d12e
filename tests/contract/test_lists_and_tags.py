"""Pages, filters and tags over HTTP."""

from __future__ import annotations

import pytest

from imagesmith.resources.operations import built_operations
from testing.api import Api
from testing.loaded import service_model
from testing.refusals import refused


def test_pages_hold_every_item_once_newest_first(api: Api) -> None:
    """All pages together are the whole list, also when items are added in between."""
    for number in range(30):
        api.infrastructure(name=f"infra-{number}")
    first = api.client.list_infrastructure_configurations(maxResults=10)
    api.infrastructure(name="added-later")
    names = [item["name"] for item in first["infrastructureConfigurationSummaryList"]]
    token = first.get("nextToken")
    while token:
        page = api.client.list_infrastructure_configurations(maxResults=10, nextToken=token)
        names += [item["name"] for item in page["infrastructureConfigurationSummaryList"]]
        token = page.get("nextToken")
    assert names == [f"infra-{number}" for number in reversed(range(30))]


def test_without_a_size_a_page_has_25_items(api: Api) -> None:
    """And the last page has no token."""
    for number in range(26):
        api.infrastructure(name=f"infra-{number}")
    page = api.client.list_infrastructure_configurations()
    assert len(page["infrastructureConfigurationSummaryList"]) == 25
    rest = api.client.list_infrastructure_configurations(nextToken=page["nextToken"])
    assert len(rest["infrastructureConfigurationSummaryList"]) == 1 and "nextToken" not in rest


def test_foreign_altered_and_old_tokens_are_refused(api: Api) -> None:
    """A token belongs to its operation and filters, and lives a day."""
    for number in range(3):
        api.infrastructure(name=f"infra-{number}")
    token = api.client.list_infrastructure_configurations(maxResults=1)["nextToken"]
    for bad in ("x", token[:-4] + "AAAA", token + "A", "ünicode"):
        with refused("InvalidPaginationTokenException"):
            api.client.list_infrastructure_configurations(nextToken=bad)
    with refused("InvalidPaginationTokenException"):
        api.client.list_distribution_configurations(nextToken=token)
    with refused("InvalidPaginationTokenException"):
        api.client.list_infrastructure_configurations(
            nextToken=token, filters=[{"name": "name", "values": ["infra-0"]}]
        )
    api.clock.advance(hours=25)
    with refused("InvalidPaginationTokenException"):
        api.client.list_infrastructure_configurations(nextToken=token)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("web-a", ["web-a"]),
        ("web*", ["web-a", "web-b"]),
        ("*eb-*", ["web-a", "web-b"]),
        ("WEB-A", []),
        ("*b", []),
        ("nothing", []),
    ],
)
def test_the_name_filter_takes_stars_at_the_end_or_both_ends(api: Api, value: str, found: list[str]) -> None:
    """Names are matched as entered, with their case."""
    for name in ("web-b", "web-a", "db-c"):
        api.infrastructure(name=name)
    listed = api.client.list_infrastructure_configurations(filters=[{"name": "name", "values": [value]}])
    assert [item["name"] for item in listed["infrastructureConfigurationSummaryList"]] == found


def test_values_of_a_filter_or_and_filters_and(api: Api) -> None:
    """Several values widen, several filters narrow."""
    api.pipeline(name="one", description="x")
    api.pipeline(name="two", description="x", status="DISABLED")
    listed = api.client.list_image_pipelines(
        filters=[{"name": "name", "values": ["one", "two"]}, {"name": "status", "values": ["DISABLED"]}]
    )
    assert [item["name"] for item in listed["imagePipelineList"]] == ["two"]
    assert "consecutiveFailures" in listed["imagePipelineList"][0]


def test_an_unknown_filter_and_a_bad_size_are_refused(api: Api) -> None:
    """Both name their member."""
    with refused("InvalidParameterValueException") as refusal:
        api.client.list_image_pipelines(filters=[{"name": "colour", "values": ["x"]}])
    assert "'filters[0].name'" in refusal.message
    with refused("InvalidParameterValueException") as refusal:
        api.client.list_image_pipelines(maxResults=101)
    assert "maxResults" in refusal.message


def test_tags_merge_overwrite_and_go(api: Api) -> None:
    """On every kind of resource; dates do not move."""
    pipeline = api.pipeline(tags={"a": "1", "b": "2"})
    before = api.get_pipeline(pipeline)["dateUpdated"]
    arns = [pipeline, api.component(), api.recipe(), api.image_recipe(), api.infrastructure(), api.distribution()]
    for arn in arns:
        api.client.tag_resource(resourceArn=arn, tags={"b": "3", "c": "4"})
        api.client.untag_resource(resourceArn=arn, tagKeys=["c", "never there"])
        tags = api.client.list_tags_for_resource(resourceArn=arn)["tags"]
        assert tags == ({"a": "1", "b": "3"} if arn == pipeline else {"b": "3"})
    assert api.get_pipeline(pipeline)["dateUpdated"] == before
    assert api.get_pipeline(pipeline)["tags"] == {"a": "1", "b": "3"}


def test_tags_have_their_own_errors(api: Api) -> None:
    """Unknown resources are 404, too many tags and malformed ARNs InvalidParameter."""
    with refused("ResourceNotFoundException"):
        api.client.list_tags_for_resource(resourceArn=api.arn("image-pipeline", "none"))
    with refused("ResourceNotFoundException"):
        api.client.list_tags_for_resource(resourceArn=api.arn("component", "hello/1.0.0"))
    arn = api.infrastructure(tags={str(number): "x" for number in range(50)})
    with refused("InvalidParameterException"):
        api.client.tag_resource(resourceArn=arn, tags={"one": "more"})
    with refused("InvalidParameterException"):
        api.client.list_tags_for_resource(resourceArn="arn:aws:imagebuilder:nonsense")


def test_accounts_and_regions_do_not_see_each_other(api: Api) -> None:
    """The region of the credential's scope separates resources of one name."""
    from testing.api import client_for

    api.infrastructure()
    key = api.keys.keys[0]
    other = client_for(api.url, key.access_key_id, key.secret, region="us-west-2")
    assert other.list_infrastructure_configurations()["infrastructureConfigurationSummaryList"] == []
    made = other.create_infrastructure_configuration(name="infra", instanceProfileName="p")
    assert ":us-west-2:" in made["infrastructureConfigurationArn"]


def test_every_operation_is_built() -> None:
    """None of the model answers 501; tests/wire has what a server without one says."""
    assert frozenset(built_operations()) == frozenset(service_model().operations)
