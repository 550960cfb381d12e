"""The AMIs of a run: names, copies, permissions, templates, parameters; without a machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from imagesmith.builds.failures import StepFailed
from imagesmith.builds.machine_build import MachineBuild, amis_to_api
from imagesmith.builds.machine_source import parent_source
from imagesmith.builds.records import ImageRecords
from imagesmith.builds.work import Work
from imagesmith.builds.worker_context import WorkerContext
from imagesmith.distribution.ami_post_distribution import distribute_amis
from imagesmith.distribution.ami_texts import rendered
from imagesmith.distribution.amis import CONFIGURATION_STEPS, copy_to_regions
from imagesmith.distribution.destinations import catalog_region
from imagesmith.distribution.failures import DistributionFailed
from imagesmith.processes import Cancellation
from imagesmith.recipes.plan import PlannedMachine, PlannedParent
from imagesmith.settings import Settings
from imagesmith.store import amis as catalog
from imagesmith.store.amis import Ami, AmiNameTaken, may_launch
from imagesmith.store.database import Database
from imagesmith.store.parameters import ParameterRecord, get_parameter, put_parameter
from imagesmith.store.tables import launch_templates
from testing.clocks import MovingClock
from testing.disks import raw_disk
from testing.loaded import service_model
from testing.plans import ACCOUNT, ARN, OTHER, PLAN, REGION

pytestmark = pytest.mark.tool

DIGEST = "sha256:" + "1" * 64


@pytest.fixture
def work(sqlite_database: Database, clock: MovingClock, tmp_path: Path) -> Iterator[Work]:
    """Work on a run whose distribution is empty."""
    records = ImageRecords(sqlite_database, clock)
    worker_context = WorkerContext.open(Settings(tmp_path / "data"), records, clock)
    with worker_context.log(ARN) as log:
        yield Work(worker_context, PLAN, log, Cancellation(), kind=MachineBuild())
    worker_context.close()


def with_distribution(work: Work, *entries: Mapping[str, Any]) -> Work:
    return replace(work, plan=replace(work.plan, machine=PlannedMachine(distributions=entries)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("web {{ imagebuilder:buildDate }}", "web 2026-11-23T18-04-10.001Z"),
        ("web-{{imagebuilder:buildVersion}}", "web-3"),
        ("{{ imagebuilder:buildDate:yyyyMMdd-HHmmss }}", "20261123-180410"),
        ("{{ other }} {{imagebuilder:nothing}}", "{{ other }} {{imagebuilder:nothing}}"),
    ],
)
def test_names_are_rendered(work: Work, text: str, expected: str) -> None:
    """Dates and build numbers are filled in, with and without a format; other braces stay."""
    assert rendered(text, work.distribution) == expected


def test_the_output_has_the_default_name_and_the_tags_of_the_service(work: Work) -> None:
    """Without a distribution: image name and time; registering again is the same AMI."""
    first, again = (
        catalog_region.register_output(work.distribution, DIGEST, entry="credentials") for _ in range(2)
    )
    assert first.ami_id == again.ami_id and first.name == "web 2026-11-23T18-04-10.001Z"
    assert first.document["tags"] == {"CreatedBy": "EC2 Image Builder", "Ec2ImageBuilderArn": ARN}
    (shown,) = amis_to_api(work.worker_context, ARN)
    assert (shown["image"], shown["region"], shown["accountId"]) == (first.ami_id, REGION, ACCOUNT)


def test_a_distribution_reaches_every_region_and_account(work: Work) -> None:
    """Entries, tags, permissions, templates and parameters are where they were asked for; twice is once."""
    work = with_distribution(
        work,
        {
            "region": REGION,
            "amiDistributionConfiguration": {
                "name": "web-{{ imagebuilder:buildDate }}", "amiTags": {"build": "{{ imagebuilder:buildVersion }}"},
                "launchPermission": {"userIds": [OTHER]},
            },
            "launchTemplateConfigurations": [{"launchTemplateId": "lt-1", "setDefaultVersion": True}],
            "ssmParameterConfigurations": [{"parameterName": "/web/ami"}],
        },
        {"region": "us-east-1", "amiDistributionConfiguration": {"targetAccountIds": [OTHER]}},
    )  # fmt: skip
    own = catalog_region.register_output(work.distribution, DIGEST, entry="cloud-init")
    for _ in range(2):
        distribute_amis(work.distribution)
    with work.worker_context.records.database.read() as tx:
        found = {(ami.region, ami.account): ami for ami in catalog.list_amis(tx, image_arn=ARN)}
        parameter = get_parameter(tx, ACCOUNT, REGION, "/web/ami")
    assert set(found) == {(REGION, ACCOUNT), ("us-east-1", ACCOUNT), ("us-east-1", OTHER)}
    assert {ami.digest for ami in found.values()} == {DIGEST}
    mine = found[REGION, ACCOUNT]
    assert (mine.ami_id, mine.name) == (own.ami_id, "web-2026-11-23T18-04-10.001Z")
    assert mine.document["tags"]["build"] == "3" and may_launch(mine, OTHER) and not may_launch(mine, "1" * 12)
    assert parameter is not None and parameter.value == own.ami_id


def test_a_name_that_is_taken_fails_only_its_region(work: Work) -> None:
    """The entry of the Region where another AMI has the name is told as failed, the other is made."""
    taken = Ami("ami-" + "9" * 17, ACCOUNT, "us-east-1", "web", DIGEST, datetime(2026, 1, 1, tzinfo=UTC))
    catalog_region.put(work.distribution, taken)
    with pytest.raises(AmiNameTaken, match="is used by ami-9"):
        catalog_region.put(work.distribution, replace(taken, ami_id="ami-" + "8" * 17))
    catalog_region.register_output(work.distribution, DIGEST, entry="cloud-init")
    told = copy_to_regions(work.distribution, [{"region": "us-east-1", "name": "web"}, {"region": "eu-north-1"}])
    assert [item["status"] for item in told] == ["Failed", "Completed"]
    assert "is used by ami-9" in told[0]["errorMessage"] and told[0]["step"] == "CopyAmiRunning"
    taken_name = {"region": "us-east-1", "amiDistributionConfiguration": {"name": "web"}}
    with pytest.raises(DistributionFailed, match="is used by ami-9") as failed:
        distribute_amis(with_distribution(work, taken_name).distribution)
    (failure,) = failed.value.context["distributionFailure"]["regionFailures"]
    assert (failure["region"], failure["status"]) == ("us-east-1", "FAILED")
    assert "imageConfigurationStep" not in failure  # the copy itself failed


def test_every_step_of_the_configuration_has_its_name_in_a_failure() -> None:
    """The names of the model, all of them and no others."""
    failure = service_model().operations["GetImage"].output.members["image"].shape.members["state"].shape
    for name in ("failureContext", "distributionFailure", "regionFailures"):
        failure = failure.members[name].shape
    assert failure.item is not None
    choices = failure.item.members["imageConfigurationStep"].shape.choices
    assert tuple(CONFIGURATION_STEPS.values()) == choices


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("ami-0123456789abcdef0", "there is no AMI ami-0123456789abcdef0 in eu-west-1 that account 123456789012"),
        ("https://images.example/disk.qcow2", "imagesmith base add"),
    ],
)
def test_a_parent_that_cannot_be_used_is_named(work: Work, reference: str, words: str) -> None:
    """An unknown AMI and a bare URL say what to try."""
    work = replace(work, plan=replace(work.plan, parent=PlannedParent("machine", reference)))
    with pytest.raises(StepFailed, match=words):
        parent_source(work)


def test_an_ami_of_somebody_else_needs_a_permission(work: Work) -> None:
    """Another account's AMI is as good as absent until it may be launched; then only its disk can be missing."""
    theirs = Ami("ami-0123456789abcdef0", OTHER, REGION, "theirs", DIGEST, datetime(2026, 1, 1, tzinfo=UTC))
    catalog_region.put(work.distribution, theirs)
    with pytest.raises(StepFailed, match="there is no AMI"):
        parent_source(work)
    catalog_region.put(work.distribution, replace(theirs, document={"launchPermission": {"userGroups": ["all"]}}))
    with pytest.raises(StepFailed, match=r"the disk sha256:1+ is not in"):
        parent_source(work)


def test_the_recipe_describes_and_tags_the_ami_of_the_build_region(work: Work) -> None:
    """Its tags stay over the distribution, whose own win; copies get neither; parameters are looked up."""
    with work.worker_context.records.database.write(f"{ACCOUNT}/{REGION}") as tx:
        put_parameter(tx, ACCOUNT, REGION, ParameterRecord("/team", "blue", work.worker_context.clock()))
        secure = ParameterRecord("/secret", "", work.worker_context.clock(), sealed="1:abc:def")
        put_parameter(tx, ACCOUNT, REGION, secure)
    machine = PlannedMachine(
        description="of the recipe", ami_tags={
            "kind": "recipe", "team": "{{ ssm:/team }}", "lost": "{{ssm:no}}", "secret": "{{ssm:/secret}}",
        },
        distributions=(
            {"region": REGION, "amiDistributionConfiguration": {"amiTags": {"kind": "distribution"}}},
            {"region": "us-east-1", "amiDistributionConfiguration": {"description": "of the copy"}},
            {"region": "eu-north-1"},
        ),
    )  # fmt: skip
    work = replace(work, plan=replace(work.plan, machine=machine))
    catalog_region.register_output(work.distribution, DIGEST, entry="cloud-init")
    distribute_amis(work.distribution)
    with work.worker_context.records.database.read() as tx:
        found = {ami.region: ami.document for ami in catalog.list_amis(tx, image_arn=ARN)}
    own = found[REGION]
    assert {name: own["tags"][name] for name in ("kind", "team", "lost", "secret")} == {
        "kind": "distribution", "team": "blue", "lost": "{{ssm:no}}", "secret": "{{ssm:/secret}}",
    }  # fmt: skip
    assert [found[name]["description"] for name in (REGION, "us-east-1", "eu-north-1")] == [
        "of the recipe", "of the copy", "",
    ]  # fmt: skip
    assert "kind" not in found["us-east-1"]["tags"]


def test_a_launch_template_has_a_new_default_unless_it_is_not_wanted(work: Work) -> None:
    """A version for the AMI in the account that was named; the same AMI again is the same version."""
    templates = [
        {"launchTemplateId": "lt-1"}, {"launchTemplateId": "lt-2", "setDefaultVersion": False, "accountId": OTHER}
    ]  # fmt: skip
    work = with_distribution(work, {"region": REGION, "launchTemplateConfigurations": templates})
    catalog_region.register_output(work.distribution, DIGEST, entry="cloud-init")
    for _ in range(2):
        distribute_amis(work.distribution)
    with work.worker_context.records.database.read() as tx:
        rows = tx.execute(sa.select(launch_templates).order_by(launch_templates.c.template_id)).all()
    assert [(row.account, row.template_id, row.version, row.is_default) for row in rows] == [
        (ACCOUNT, "lt-1", 1, 1), (OTHER, "lt-2", 1, 0),
    ]  # fmt: skip


def test_a_parameter_is_for_a_target_account_of_its_region(work: Work) -> None:
    """Another account's parameter holds the id of its copy; an account without a copy fails the Region."""
    parameter = {"parameterName": "/web", "amiAccountId": OTHER, "dataType": "aws:ec2:image"}
    entry = {
        "region": "us-east-1", "amiDistributionConfiguration": {"targetAccountIds": [OTHER]},
        "ssmParameterConfigurations": [parameter],
    }  # fmt: skip
    catalog_region.register_output(work.distribution, DIGEST, entry="cloud-init")
    distribute_amis(with_distribution(work, entry).distribution)
    with work.worker_context.records.database.read() as tx:
        found = get_parameter(tx, OTHER, "us-east-1", "/web")
        copies = {ami.account: ami.ami_id for ami in catalog.list_amis(tx, region="us-east-1")}
    assert found is not None and found.value == copies[OTHER]
    stranger = {**entry, "ssmParameterConfigurations": [{**parameter, "amiAccountId": "1" * 12}]}
    with pytest.raises(
        DistributionFailed, match="for account 111111111111, which is not a target account of us-east-1"
    ):
        distribute_amis(with_distribution(work, stranger).distribution)


def test_an_adopted_disk_keeps_its_boot_mode_and_its_way_in(work: Work, tmp_path: Path) -> None:
    """The AMI of an image that takes its parent as it is, and its copies, start as the parent does."""
    raw_disk(tmp_path / "parent.raw")
    digest = work.worker_context.disks.take(tmp_path / "parent.raw").digest
    members = {"bootMode": "uefi", "entry": "credentials"}
    parent = Ami(
        work.plan.parent.reference, ACCOUNT, REGION, "parent", digest, work.worker_context.clock(), "", members
    )
    catalog_region.put(work.distribution, parent)
    work = with_distribution(
        replace(work, plan=replace(work.plan, collect_metadata=False)), {"region": "us-east-1"}
    )
    assert MachineBuild().adopt_parent(work) == digest
    distribute_amis(work.distribution)
    with work.worker_context.records.database.read() as tx:
        found = {ami.region: ami.document for ami in catalog.list_amis(tx, image_arn=ARN)}
    assert set(found) == {REGION, "us-east-1"}
    for document in found.values():
        assert {name: document.get(name) for name in members} == members


def test_a_watermarked_ami_is_not_made_public(work: Work) -> None:
    """The distribution fails at that step and the AMI stays private."""
    public = {"region": REGION, "amiDistributionConfiguration": {"launchPermission": {"userGroups": ["all"]}}}
    machine = PlannedMachine(distributions=(public,), watermarked=True)
    work = replace(work, plan=replace(work.plan, machine=machine))
    catalog_region.register_output(work.distribution, DIGEST, entry="cloud-init")
    with pytest.raises(DistributionFailed, match="is watermarked: it remains private"):
        distribute_amis(work.distribution)
    assert not may_launch(catalog_region.own_ami(work.distribution), OTHER)
