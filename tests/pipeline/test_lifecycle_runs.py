"""Lifecycle policies and state updates on a running server: what is left afterwards."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from imagesmith.build_logs.logs import log_path
from testing.machine_images import ADOPT, Base, start
from testing.pipeline_support import REGION, Forge, eventually, image_digest, uris
from testing.refusals import refused
from testing.registry_support import RunningRegistry
from testing.workflow_support import ROLE

pytestmark = pytest.mark.tool

CONTAINERS = {"containers": True}


def ended(forge: Forge, id: str) -> dict[str, Any]:
    """An execution that has ended."""

    def probe() -> dict[str, Any] | None:
        found = forge.client.get_lifecycle_execution(lifecycleExecutionId=id)["lifecycleExecution"]
        return dict(found) if "endTime" in found else None

    return eventually(probe, f"the execution {id} ends")


def delete(forge: Forge, arn: str, include: dict[str, bool]) -> tuple[str, list[dict[str, Any]]]:
    """The status of a deletion and its resources."""
    id = forge.client.start_resource_state_update(
        resourceArn=arn, state={"status": "DELETED"}, executionRole=ROLE, includeResources=include
    )["lifecycleExecutionId"]
    status = ended(forge, id)["state"]["status"]
    return status, forge.client.list_lifecycle_execution_resources(lifecycleExecutionId=id)["resources"]


def gone(uri: str) -> bool:
    argv = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{uri}"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode != 0 and "manifest unknown" in done.stderr


def tag(registry: RunningRegistry, uri: str, name: str) -> str:
    """Another tag on an image of the registry."""
    other = f"{uri.rpartition(':')[0]}:{name}"
    options = ["--src-tls-verify=false", "--dest-tls-verify=false"]
    subprocess.run(["skopeo", "copy", "-q", *options, f"docker://{uri}", f"docker://{other}"], check=True)
    assert registry.host in other
    return other


def test_a_container_image_is_deleted_everywhere(forge: Forge) -> None:
    """Tags, manifest, name and blobs of the layout, logs and record; another image keeps its blobs."""
    first, second = (forge.build(forge.recipe(forge.component(build=f"echo {n} > /n"))) for n in "12")
    digest = image_digest(f"docker://{uris(first)[0]}")
    blob = forge.server.data_dir / "oci/blobs/sha256" / digest.removeprefix("sha256:")
    log = log_path(forge.server.data_dir / "logs", first["arn"])
    assert blob.exists() and log.exists()
    status, (image,) = delete(forge, first["arn"], CONTAINERS)
    assert (status, image["state"]["status"], image["resourceId"]) == ("SUCCESS", "SUCCESS", first["arn"])
    assert all(gone(uri) for uri in uris(first)) and not gone(uris(second)[0])
    assert not blob.exists() and not log.exists()
    with refused("ResourceNotFoundException"):
        forge.image(first["arn"])
    forge.build(forge.recipe(forge.component(build="grep 2 /n"), parentImage=second["arn"]))


def test_a_manifest_with_another_tag_stays(forge: Forge, open_registry: RunningRegistry) -> None:
    """A registry that removes no tag alone keeps both, and the image is SKIPPED with the name of the tag."""
    built = forge.build(forge.recipe(forge.component(build="echo kept > /kept")))
    kept = tag(open_registry, uris(built)[0], "stable")
    status, (image,) = delete(forge, built["arn"], CONTAINERS)
    assert (status, image["state"]["status"]) == ("SUCCESS", "SKIPPED")
    assert ":stable points to the same image" in image["state"]["reason"]
    assert not gone(kept) and not gone(uris(built)[0])
    assert forge.state(built["arn"]) == "AVAILABLE"


def test_a_policy_runs_and_deletes_what_its_preview_says(forge: Forge, base: Base) -> None:
    """The newest build stays; preview, run by command, and the resources of both levels."""
    name = forge.name("policy")
    first, second = _two_builds(forge, base, tags={"policy": name})
    rule = {
        "action": {"type": "DELETE", "includeResources": {"amis": True}}, "filter": {"type": "COUNT", "value": 1}
    }  # fmt: skip
    policy = forge.client.create_lifecycle_policy(
        name=name, executionRole=ROLE, resourceType="AMI_IMAGE", policyDetails=[rule],
        resourceSelection={"tagMap": {"policy": name}},
    )["lifecyclePolicyArn"]  # fmt: skip
    (ami,) = first["outputResources"]["amis"]
    planned = json.loads(forge.server.command("lifecycle", "preview", name, "--json"))
    assert [(row["resource"], row["parent"], row["skipped"]) for row in planned] == [
        (first["arn"], "", ""), (ami["image"], first["arn"], "")
    ]  # fmt: skip
    assert forge.state(first["arn"]) == "AVAILABLE"
    forge.server.command("lifecycle", "run", name)

    def probe() -> list[dict[str, Any]]:
        found = forge.client.list_lifecycle_executions(resourceArn=policy)["lifecycleExecutions"]
        return [item for item in found if "endTime" in item]

    (execution,) = eventually(probe, "the policy runs", seconds=60)
    assert execution["state"]["status"] == "SUCCESS"
    assert execution["resourcesImpactedSummary"]["hasImpactedResources"]
    below = forge.client.list_lifecycle_execution_resources(
        lifecycleExecutionId=execution["lifecycleExecutionId"], parentResourceId=first["arn"]
    )["resources"]
    assert [(row["resourceId"], row["state"]["status"]) for row in below] == [(ami["image"], "SUCCESS")]
    with refused("ResourceNotFoundException"):
        forge.image(first["arn"])
    assert forge.state(second["arn"]) == "AVAILABLE"
    assert "dateLastRun" in forge.client.get_lifecycle_policy(lifecyclePolicyArn=policy)["lifecyclePolicy"]
    assert "there is no lifecycle policy" in forge.server.command("lifecycle", "preview", "missing", status=1)
    forge.client.delete_lifecycle_policy(lifecyclePolicyArn=policy)


def _two_builds(forge: Forge, base: Base, **members: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two builds of one recipe version that adopt their parent."""
    recipe = forge.client.create_image_recipe(
        name=forge.name("machine"), semanticVersion="1.0.0", parentImage=base.ami,
        components=[{"componentArn": forge.component(build="true")}],
    )["imageRecipeArn"]  # fmt: skip

    def build() -> dict[str, Any]:
        made = forge.client.create_image(
            imageRecipeArn=recipe, infrastructureConfigurationArn=forge.infrastructure(), workflows=[ADOPT],
            executionRole=ROLE, **members,
        )  # fmt: skip
        return forge.finished(str(made["imageBuildVersionArn"]))

    return build(), build()


def test_a_disk_goes_with_the_last_ami(forge: Forge, base: Base) -> None:
    """The image's AMI is removed; the disk stays, because the base that was added has it."""
    image = forge.finished(start(forge, base.ami, workflows=[ADOPT], executionRole=ROLE))
    (ami,) = image["outputResources"]["amis"]
    assert base.ami in forge.server.command("ami", "list", "--json")
    status, (row,) = delete(forge, image["arn"], {"amis": True, "snapshots": True})
    assert (status, row["state"]["status"], row["region"]) == ("SUCCESS", "SUCCESS", REGION)
    listed = forge.server.command("ami", "list", "--json")
    assert ami["image"] not in listed and base.ami in listed
    assert (forge.server.data_dir / "disks/sha256" / base.digest[7:]).exists()


def test_a_disabled_image_is_no_parent(forge: Forge, base: Base) -> None:
    """A run on it is refused and names its state; a deprecated one still works."""
    parent = forge.finished(start(forge, base.ami, workflows=[ADOPT], executionRole=ROLE))["arn"]
    forge.client.start_resource_state_update(resourceArn=parent, state={"status": "DEPRECATED"})
    forge.finished(start(forge, parent, workflows=[ADOPT], executionRole=ROLE))
    forge.client.start_resource_state_update(resourceArn=parent, state={"status": "DISABLED"})
    with refused("InvalidRequestException") as refusal:
        start(forge, parent, workflows=[ADOPT], executionRole=ROLE)
    assert f"{parent} is DISABLED" in refusal.message
