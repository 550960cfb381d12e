"""Image pipelines over HTTP, above all UpdateImagePipeline (update-image-pipeline.txt)."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testing.api import ACCOUNT, REGION, Api, MakeApi, required
from testing.refusals import refused

SCHEDULE = {"scheduleExpression": "cron(0 10 * * ? *)"}
IDENTITY = {"arn", "name", "dateCreated", "dateUpdated", "tags"}


def test_a_minimal_pipeline_gets_the_documented_defaults(api: Api) -> None:
    """Create fills in exactly the defaults of the specification."""
    arn = api.pipeline(name="My Pipe_1")
    document = api.get_pipeline(arn)
    recipe, infrastructure = document.pop("containerRecipeArn"), document.pop("infrastructureConfigurationArn")
    created = document.pop("dateCreated")
    assert arn == api.arn("image-pipeline", "my-pipe-1")
    assert "container-recipe" in recipe and "infrastructure-configuration" in infrastructure
    assert created == document.pop("dateUpdated")
    assert document == {
        "arn": arn,
        "name": "My Pipe_1",
        "platform": "Linux",
        "enhancedImageMetadataEnabled": True,
        "imageTestsConfiguration": {"imageTestsEnabled": True, "timeoutMinutes": 720},
        "status": "ENABLED",
        "consecutiveFailures": 0,
        "tags": {},
    }


def test_answers_carry_the_request_id_and_the_client_token(api: Api) -> None:
    """The body's requestId equals the header, the token is the caller's."""
    arn = api.pipeline()
    answer = api.client.update_image_pipeline(**required(api, arn), clientToken="my-token")
    assert answer["clientToken"] == "my-token"
    assert answer["imagePipelineArn"] == arn
    assert answer["requestId"] == answer["ResponseMetadata"]["RequestId"]


def test_update_replaces_everything_but_name_tags_and_creation(api: Api) -> None:
    """A member that the update does not carry is gone or back at its default."""
    arn = api.pipeline(
        description="first", schedule=SCHEDULE, status="DISABLED", enhancedImageMetadataEnabled=False,
        distributionConfigurationArn=api.distribution(), tags={"team": "a"}, imageTags={"x": "y"},
        imageTestsConfiguration={"imageTestsEnabled": False}, executionRole="builder",
        imageScanningConfiguration={"imageScanningEnabled": False},
        loggingConfiguration={"imageLogGroupName": "/aws/imagebuilder/web"},
    )  # fmt: skip
    before = api.get_pipeline(arn)
    assert before["imageTestsConfiguration"] == {"imageTestsEnabled": False, "timeoutMinutes": 720}
    assert before["imageScanningConfiguration"] == {"imageScanningEnabled": False}
    api.client.update_image_pipeline(**required(api, arn))
    after = api.get_pipeline(arn)
    assert after["tags"] == {"team": "a"}
    assert after["dateCreated"] == before["dateCreated"] and after["dateUpdated"] > before["dateUpdated"]
    assert after["status"] == "ENABLED"
    assert after["enhancedImageMetadataEnabled"] is True
    assert after["imageTestsConfiguration"] == {"imageTestsEnabled": True, "timeoutMinutes": 720}
    dropped = {
        "description", "schedule", "dateNextRun", "distributionConfigurationArn", "imageTags", "executionRole",
        "imageScanningConfiguration", "loggingConfiguration",
    }  # fmt: skip
    assert not dropped & after.keys()


OPTIONAL: dict[str, st.SearchStrategy[Any]] = {
    "description": st.text("abc ", min_size=1, max_size=20),
    "status": st.sampled_from(["ENABLED", "DISABLED"]),
    "enhancedImageMetadataEnabled": st.booleans(),
    "executionRole": st.sampled_from(["role", f"arn:aws:iam::{ACCOUNT}:role/build"]),
    "schedule": st.sampled_from(
        [
            SCHEDULE,
            {"scheduleExpression": "cron(0 0 1 1 ? 2020)"},
            {"scheduleExpression": "cron(30 2 * * ? *)", "timezone": "Europe/Berlin"},
            {
                "scheduleExpression": "rate(5 hours)",
                "pipelineExecutionStartCondition": "EXPRESSION_MATCH_ONLY",
                "autoDisablePolicy": {"failureCount": 2},
            },
        ]
    ),
    "imageTestsConfiguration": st.sampled_from([{}, {"imageTestsEnabled": False}, {"timeoutMinutes": 60}]),
    "imageScanningConfiguration": st.sampled_from(
        [{"imageScanningEnabled": False}, {"ecrConfiguration": {"repositoryName": "r", "containerTags": ["t"]}}]
    ),
    "loggingConfiguration": st.just({"pipelineLogGroupName": "/aws/imagebuilder/p"}),
    "imageTags": st.dictionaries(st.text("kxy", min_size=1, max_size=3), st.text("v", max_size=3), min_size=1),
}


@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_update_with_a_subset_equals_create_with_that_subset(api: Api, data: st.DataObject) -> None:
    """Whatever the pipeline was before, an update leaves what a create with the same members would."""
    first = data.draw(st.fixed_dictionaries({}, optional=OPTIONAL))
    second = data.draw(st.fixed_dictionaries({}, optional=OPTIONAL))
    number = api.rows()
    updated = api.pipeline(name=f"updated-{number}", **first)
    base = {name: value for name, value in required(api, updated).items() if name != "imagePipelineArn"}
    api.clock.now = api.clock.now.replace(second=0, microsecond=0)
    api.client.update_image_pipeline(imagePipelineArn=updated, **base, **second)
    created = api.pipeline(name=f"created-{number}", **base, **second)
    sides = [
        {name: value for name, value in api.get_pipeline(arn).items() if name not in IDENTITY}
        for arn in (updated, created)
    ]
    if second.get("schedule", {}).get("scheduleExpression", "").startswith("rate"):
        # the same rate keeps its anchor over an update, a new pipeline starts counting now
        for side in sides:
            side.pop("dateNextRun", None)
    assert sides[0] == sides[1]
    for arn in (updated, created):
        api.client.delete_image_pipeline(imagePipelineArn=arn)


def test_updating_a_disabled_pipeline_without_status_enables_it(api: Api) -> None:
    """status is not kept over an update."""
    arn = api.pipeline(status="DISABLED", schedule=SCHEDULE)
    assert "dateNextRun" not in api.get_pipeline(arn)
    api.client.update_image_pipeline(**required(api, arn), schedule=SCHEDULE)
    assert api.get_pipeline(arn)["status"] == "ENABLED"
    assert api.get_pipeline(arn)["dateNextRun"] == "2026-11-24T10:00:00.000Z"


def test_the_recipe_may_change_but_not_its_kind(api: Api) -> None:
    """Another container recipe is taken, an image recipe is refused and changes nothing."""
    arn = api.pipeline()
    members = required(api, arn)
    other = api.recipe(name="other")
    api.client.update_image_pipeline(**{**members, "containerRecipeArn": other})
    assert api.get_pipeline(arn)["containerRecipeArn"] == other
    del members["containerRecipeArn"]
    with refused("InvalidRequestException"):
        api.client.update_image_pipeline(**members, imageRecipeArn=api.image_recipe())
    assert api.get_pipeline(arn)["containerRecipeArn"] == other


@pytest.mark.parametrize("given_recipes", ["none", "both"])
def test_exactly_one_recipe_is_needed(api: Api, given_recipes: str) -> None:
    """None and both are refused on create and on update."""
    arn = api.pipeline()
    members = required(api, arn)
    if given_recipes == "none":
        del members["containerRecipeArn"]
    else:
        members["imageRecipeArn"] = api.image_recipe()
    with refused("InvalidParameterCombinationException"):
        api.client.update_image_pipeline(**members)
    del members["imagePipelineArn"]
    with refused("InvalidParameterCombinationException"):
        api.client.create_image_pipeline(name="another", **members)


def test_missing_references_are_named(api: Api) -> None:
    """Every kind of missing reference is a 404 with the ARN as given."""
    arn = api.pipeline()
    members = required(api, arn)
    for member, kind, path in (
        ("imagePipelineArn", "image-pipeline", "gone"),
        ("containerRecipeArn", "container-recipe", "gone/1.0.0"),
        ("infrastructureConfigurationArn", "infrastructure-configuration", "gone"),
        ("distributionConfigurationArn", "distribution-configuration", "gone"),
    ):
        missing = api.arn(kind, path)
        with refused("ResourceNotFoundException") as refusal:
            api.client.update_image_pipeline(**{**members, member: missing})
        assert refusal.status == 404
        assert missing in refusal.message


def test_a_foreign_account_is_denied_and_a_foreign_region_is_not_there(api: Api) -> None:
    """ARNs of other accounts give 403, of other regions 404."""
    with refused("AccessDeniedException") as refusal:
        api.client.get_image_pipeline(imagePipelineArn=api.arn("image-pipeline", "x", owner="999999999999"))
    assert "is not authorized to perform: imagebuilder:GetImagePipeline" in refusal.message
    with refused("ResourceNotFoundException"):
        api.client.get_image_pipeline(imagePipelineArn=api.arn("image-pipeline", "x").replace(REGION, "us-east-1"))


def test_the_same_token_gives_the_same_answer_and_does_nothing(api: Api) -> None:
    """A replay returns the first answer; other parameters under the token are refused; a day later it is free."""
    arn = api.pipeline()
    members = required(api, arn)
    first = api.client.update_image_pipeline(**members, description="a", clientToken="t")
    updated = api.get_pipeline(arn)["dateUpdated"]
    again = api.client.update_image_pipeline(**members, description="a", clientToken="t")
    assert again["requestId"] == first["requestId"]
    assert api.get_pipeline(arn)["dateUpdated"] == updated
    with refused("IdempotentParameterMismatchException"):
        api.client.update_image_pipeline(**members, description="b", clientToken="t")
    assert api.get_pipeline(arn)["description"] == "a"
    api.clock.advance(hours=25)
    api.client.update_image_pipeline(**members, description="b", clientToken="t")
    assert api.get_pipeline(arn)["description"] == "b"


def test_a_failed_call_frees_its_token(api: Api) -> None:
    """Only successes are remembered."""
    arn = api.pipeline()
    members = required(api, arn)
    with refused("ResourceNotFoundException"):
        api.client.update_image_pipeline(
            **{**members, "containerRecipeArn": api.arn("container-recipe", "gone/1.0.0")}, clientToken="t"
        )
    api.client.update_image_pipeline(**members, clientToken="t")


def test_a_replayed_create_returns_the_arn_of_what_was_deleted(api: Api) -> None:
    """Deleting the resource does not forget the token."""
    recipe, infrastructure = api.recipe(), api.infrastructure()
    members: dict[str, Any] = {
        "name": "pipe", "containerRecipeArn": recipe, "infrastructureConfigurationArn": infrastructure,
        "clientToken": "t",
    }  # fmt: skip
    arn = api.client.create_image_pipeline(**members)["imagePipelineArn"]
    api.client.delete_image_pipeline(imagePipelineArn=arn)
    assert api.client.create_image_pipeline(**members)["imagePipelineArn"] == arn
    with refused("ResourceNotFoundException"):
        api.client.get_image_pipeline(imagePipelineArn=arn)


def test_names_are_unique_by_slug(api: Api) -> None:
    """Names that differ in case, blanks and underscores are one name."""
    api.pipeline(name="My Pipe")
    with refused("ResourceAlreadyExistsException"):
        api.pipeline(
            name="my_pipe",
            containerRecipeArn=api.recipe(name="other"),
            infrastructureConfigurationArn=api.infrastructure(),
        )


def test_a_dry_run_reports_the_real_error_and_writes_nothing(api: Api) -> None:
    """Passing checks give DryRunOperation, failing ones their own error; neither stores nor takes the token."""
    members: dict[str, Any] = {
        "name": "pipe", "containerRecipeArn": api.recipe(), "infrastructureConfigurationArn": api.infrastructure(),
        "clientToken": "t",
    }  # fmt: skip
    stored = api.rows()
    with refused("DryRunOperationException") as refusal:
        api.client.create_image_pipeline(**members, dryRun=True)
    assert refusal.status == 412
    with refused("ResourceNotFoundException"):
        api.client.create_image_pipeline(
            **{**members, "infrastructureConfigurationArn": api.arn("infrastructure-configuration", "gone")},
            dryRun=True,
        )
    assert api.rows() == stored
    api.client.create_image_pipeline(**members)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("cron(0 0 * * *)", "Invalid CRON expression: error at position 9, details: Unexpected end of expression."),
        ("rate(1 hours)", "Invalid RATE expression"),
        ("every day", "The expression must be a cron or rate expression."),
    ],
)
def test_a_bad_schedule_is_explained_and_nothing_is_stored(api: Api, expression: str, text: str) -> None:
    """The literal message of the service, with path, position and detail."""
    recipe, infrastructure = api.recipe(), api.infrastructure()
    stored = api.rows()
    with refused("InvalidParameterValueException") as refusal:
        api.pipeline(
            schedule={"scheduleExpression": expression}, containerRecipeArn=recipe,
            infrastructureConfigurationArn=infrastructure,
        )  # fmt: skip
    prefix = "The value supplied for parameter 'schedule.scheduleExpression' is not valid. "
    assert refusal.message.startswith(f"{prefix}Invalid schedule expression. Details: ")
    assert text in refusal.message
    assert api.rows() == stored


def test_an_unknown_zone_and_a_missing_expression_are_refused(api: Api) -> None:
    """Both name their member."""
    with refused("InvalidParameterValueException") as refusal:
        api.pipeline(schedule={**SCHEDULE, "timezone": "Mars/Base"})
    assert "'schedule.timezone'" in refusal.message
    with refused("InvalidParameterValueException") as refusal:
        api.pipeline(name="other", schedule={"timezone": "UTC"})
    assert "'schedule.scheduleExpression'" in refusal.message


def test_a_schedule_shows_its_defaults_and_its_next_run(api: Api) -> None:
    """Start condition and zone are filled in; dateNextRun follows the expression in its zone."""
    arn = api.pipeline(schedule={"scheduleExpression": "cron(0 9 ? * mon *)", "timezone": "Europe/Berlin"})
    document = api.get_pipeline(arn)
    assert document["schedule"] == {
        "scheduleExpression": "cron(0 9 ? * mon *)",
        "timezone": "Europe/Berlin",
        "pipelineExecutionStartCondition": "EXPRESSION_MATCH_AND_DEPENDENCY_UPDATES_AVAILABLE",
    }
    assert document["dateNextRun"] == "2026-11-30T08:00:00.000Z"
    arn = api.pipeline(name="never", schedule={"scheduleExpression": "cron(0 0 1 1 ? 2020)"})
    assert "dateNextRun" not in api.get_pipeline(arn)


def test_the_same_rate_keeps_its_anchor_over_an_update(api: Api) -> None:
    """A rate counts from when its text was set, not from the last update."""
    schedule = {"scheduleExpression": "rate(5 hours)"}
    arn = api.pipeline(schedule=schedule)
    planned = api.get_pipeline(arn)["dateNextRun"]
    api.clock.advance(hours=1)
    api.client.update_image_pipeline(**required(api, arn), schedule=schedule)
    assert api.get_pipeline(arn)["dateNextRun"] == planned
    api.client.update_image_pipeline(**required(api, arn), schedule={"scheduleExpression": "rate(6 hours)"})
    assert api.get_pipeline(arn)["dateNextRun"] > planned


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"loggingConfiguration": {"imageLogGroupName": "/mine"}}, "InvalidParameterCombinationException"),
        (
            {
                "imageScanningConfiguration": {"imageScanningEnabled": True},
                "imageTestsConfiguration": {"imageTestsEnabled": False},
            },
            "InvalidParameterCombinationException",
        ),
        (
            {"imageScanningConfiguration": {"imageScanningTypes": ["ON_DEMAND_AMI_CVE"]}},
            "InvalidParameterCombinationException",
        ),
        (
            {"imageScanningConfiguration": {"scanResultCondition": {"maximumSeverityLabel": "HIGH"}}},
            "InvalidParameterCombinationException",
        ),
        ({"status": "PAUSED"}, "InvalidParameterValueException"),
        ({"description": "x" * 1025}, "InvalidParameterValueException"),
        ({"clientToken": "x" * 37}, "InvalidParameterValueException"),
        ({"imageTestsConfiguration": {"timeoutMinutes": 1441}}, "InvalidParameterValueException"),
        ({"executionRole": "not a role!"}, "InvalidParameterValueException"),
    ],
)
def test_rules_between_members_and_constraints_hold_on_update(api: Api, members: dict[str, Any], code: str) -> None:
    """A broken rule is refused with its code and leaves the pipeline as it was."""
    arn = api.pipeline(description="before")
    before = api.get_pipeline(arn)
    with refused(code):
        api.client.update_image_pipeline(**{**required(api, arn), **members})
    assert api.get_pipeline(arn) == before


def test_workflows_need_a_role(api: Api) -> None:
    """workflows without executionRole is refused, an unknown workflow is a 404."""
    arn = api.pipeline()
    workflow = {"workflowArn": api.arn("workflow", "test/mine/1.0.0/1")}
    with refused("InvalidParameterCombinationException"):
        api.client.update_image_pipeline(**required(api, arn), workflows=[workflow])
    with refused("ResourceNotFoundException"):
        api.client.update_image_pipeline(**required(api, arn), workflows=[workflow], executionRole="role")


def test_64_concurrent_updates_leave_one_whole_document(api: Api) -> None:
    """A serial order exists: the document is exactly one of the requests, never a mixture."""
    arn = api.pipeline()
    members = required(api, arn)
    wanted = {}
    for number in range(64):
        wanted[f"update {number}"] = {
            "description": f"update {number}",
            "imageTags": {"number": str(number)},
            "imageTestsConfiguration": {"imageTestsEnabled": True, "timeoutMinutes": 60 + number},
        }
    failures: list[ClientError] = []

    def update(request: dict[str, Any]) -> None:
        try:
            api.client.update_image_pipeline(**members, **request)
        except ClientError as error:
            failures.append(error)

    threads = [threading.Thread(target=update, args=(request,)) for request in wanted.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    document = api.get_pipeline(arn)
    expected = wanted[document["description"]]
    assert {name: document[name] for name in expected} == expected


def test_start_makes_a_pending_image_at_once(api: Api) -> None:
    """The image is visible as PENDING, carries its pipeline, and the engine was told."""
    arn = api.pipeline(imageTags={"not": "applied"})
    image_arn = api.client.start_image_pipeline_execution(imagePipelineArn=arn, tags={"run": "1"})[
        "imageBuildVersionArn"
    ]
    assert image_arn == api.arn("image", "pipe-recipe/1.0.0/1")
    assert api.builds.started == [image_arn]
    image = api.client.get_image(imageBuildVersionArn=image_arn)["image"]
    assert image["state"] == {"status": "PENDING"}
    assert image["sourcePipelineArn"] == arn
    assert image["buildType"] == "USER_INITIATED"
    assert image["tags"] == {"run": "1"}
    assert image["version"] == "1.0.0/1"
    pipeline = api.get_pipeline(arn)
    assert pipeline["lastRunStatus"] == "PENDING" and pipeline["dateLastRun"]


def test_a_replayed_start_starts_nothing(api: Api) -> None:
    """The same token gives the same image."""
    arn = api.pipeline()
    answers = [
        api.client.start_image_pipeline_execution(imagePipelineArn=arn, clientToken="t")["imageBuildVersionArn"]
        for _ in range(2)
    ]
    assert answers[0] == answers[1] and len(api.builds.started) == 1


def test_build_numbers_go_up_and_never_come_back(api: Api) -> None:
    """Also a deleted build's number stays taken."""
    arn = api.pipeline(status="DISABLED")
    for number in (1, 2, 3):
        image = api.client.start_image_pipeline_execution(imagePipelineArn=arn)["imageBuildVersionArn"]
        assert image.endswith(f"/1.0.0/{number}")
        api.set_state(image, "FAILED")
        api.client.delete_image(imageBuildVersionArn=image)


def test_a_running_build_keeps_its_snapshot(api: Api) -> None:
    """Neither an update of the pipeline nor of its infrastructure touches a started build."""
    infrastructure = api.infrastructure(description="old")
    arn = api.pipeline(infrastructureConfigurationArn=infrastructure)
    image_arn = api.client.start_image_pipeline_execution(imagePipelineArn=arn)["imageBuildVersionArn"]
    before = api.client.get_image(imageBuildVersionArn=image_arn)["image"]
    plan = api.records.plan(image_arn)
    api.client.update_infrastructure_configuration(
        infrastructureConfigurationArn=infrastructure, instanceProfileName="other"
    )
    api.client.update_image_pipeline(
        **{**required(api, arn), "containerRecipeArn": api.recipe(name="other")}, enhancedImageMetadataEnabled=False
    )
    assert api.client.get_image(imageBuildVersionArn=image_arn)["image"] == before
    assert api.records.plan(image_arn) == plan


def test_last_run_status_follows_the_newest_image(api: Api) -> None:
    """An older build that ends later does not overwrite it."""
    arn = api.pipeline()
    older, newer = (
        api.client.start_image_pipeline_execution(imagePipelineArn=arn)["imageBuildVersionArn"] for _ in range(2)
    )
    api.set_state(newer, "AVAILABLE")
    api.set_state(older, "FAILED")
    assert api.get_pipeline(arn)["lastRunStatus"] == "AVAILABLE"


def test_deleting_a_pipeline_leaves_its_images(api: Api) -> None:
    """The images still name it, also in ListImagePipelineImages."""
    arn = api.pipeline()
    image = api.client.start_image_pipeline_execution(imagePipelineArn=arn)["imageBuildVersionArn"]
    api.client.delete_image_pipeline(imagePipelineArn=arn)
    with refused("ResourceNotFoundException"):
        api.client.delete_image_pipeline(imagePipelineArn=arn)
    listed = api.client.list_image_pipeline_images(imagePipelineArn=arn)["imageSummaryList"]
    assert [item["arn"] for item in listed] == [image]
    assert listed[0]["owner"] == ACCOUNT
    unknown = api.client.list_image_pipeline_images(imagePipelineArn=api.arn("image-pipeline", "unknown"))
    assert unknown["imageSummaryList"] == []


def test_a_wildcard_recipe_is_resolved_at_each_run(api: Api) -> None:
    """The pipeline keeps the wildcard; a new recipe version is what the next run builds."""
    api.recipe(name="web")
    arn = api.pipeline(containerRecipeArn=api.arn("container-recipe", "web/x.x.x"))
    first = api.client.start_image_pipeline_execution(imagePipelineArn=arn)["imageBuildVersionArn"]
    api.recipe(name="web", version="1.1.0")
    second = api.client.start_image_pipeline_execution(imagePipelineArn=arn)["imageBuildVersionArn"]
    assert first.endswith("web/1.0.0/1") and second.endswith("web/1.1.0/1")
    assert api.get_pipeline(arn)["containerRecipeArn"].endswith("web/x.x.x")


def test_pipelines_over_the_quota_are_refused(make_api: MakeApi) -> None:
    """The limit is per account and region, with the documented code and status."""
    from imagesmith.settings import Quotas

    api = make_api(quotas=Quotas(image_pipelines=1))
    api.pipeline()
    with refused("ServiceQuotaExceededException") as refusal:
        api.pipeline(name="second")
    assert refusal.status == 402
