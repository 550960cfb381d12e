"""What the demo does: build a web server image, change its recipe, build again, compare, read it back.

Everything it needs besides the server is ordinary boto3 with `endpoint_url` set.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError
from rich.table import Table
from services import HERE, REGION

from imagesmith.cli.build_details import read_details
from imagesmith.cli.context import first_key, settings_of
from imagesmith.cli.follow import follow_build
from imagesmith.cli.image import describe_changes, packages_of
from imagesmith.cli.log_watch import RetryingClient
from imagesmith.cli.scan_findings import describe_findings, findings_of
from imagesmith.cli.screen import make_console
from imagesmith.inspection.changes import compare_packages
from imagesmith.inspection.signing import public_key_path
from imagesmith.values.names import human_size
from imagesmith.values.states import FINAL_IMAGE

NAME = "demo-web"
_MOST_SHOWN = 160
console = make_console()


def clean_up(client: Any) -> None:
    """Remove what an earlier run of the demo created; images stay, builds of an interrupted run are cancelled."""
    for pipeline in client.list_image_pipelines(filters=[{"name": "name", "values": [NAME]}])["imagePipelineList"]:
        for image in client.list_image_pipeline_images(imagePipelineArn=pipeline["arn"])["imageSummaryList"]:
            if image["state"]["status"] not in FINAL_IMAGE:
                client.cancel_image_creation(imageBuildVersionArn=image["arn"])
        client.delete_image_pipeline(imagePipelineArn=pipeline["arn"])
    for recipe in client.list_container_recipes(filters=[{"name": "name", "values": [NAME]}])[
        "containerRecipeSummaryList"
    ]:
        client.delete_container_recipe(containerRecipeArn=recipe["arn"])
    for workflow in client.list_workflow_build_versions()["workflowSummaryList"]:
        if workflow["name"] == "demo-approval":
            client.delete_workflow(workflowBuildVersionArn=workflow["arn"])
    for component in client.list_component_build_versions()["componentSummaryList"]:
        if component["name"] == NAME:
            client.delete_component(componentBuildVersionArn=component["arn"])
    for item in client.list_infrastructure_configurations()["infrastructureConfigurationSummaryList"]:
        if item["name"] == NAME:
            client.delete_infrastructure_configuration(infrastructureConfigurationArn=item["arn"])
    for item in client.list_distribution_configurations()["distributionConfigurationSummaryList"]:
        if item["name"] == NAME:
            client.delete_distribution_configuration(distributionConfigurationArn=item["arn"])


def create_recipe(client: Any, version: str, component: str, packages: str) -> str:
    return str(
        client.create_container_recipe(
            containerType="DOCKER",
            name=NAME,
            semanticVersion=version,
            parentImage=f"arn:aws:imagebuilder:{REGION}:aws:image/debian-x86-12/x.x.x",
            dockerfileTemplateData=(HERE / "Dockerfile").read_text(),
            components=[{"componentArn": component, "parameters": [{"name": "Packages", "value": [packages]}]}],
            targetRepository={"service": "ECR", "repositoryName": NAME},
        )["containerRecipeArn"]
    )


def build(client: Any, pipeline: str, data_dir: Path, *, asks: bool = False) -> dict[str, Any]:
    """Start the pipeline and watch it; `asks`: approve it from the command line when it asks."""
    arn = client.start_image_pipeline_execution(imagePipelineArn=pipeline)["imageBuildVersionArn"]
    console.rule(arn)
    helper = threading.Thread(target=approve, args=(client, arn, data_dir), daemon=True)
    if asks:
        helper.start()
    image = dict(follow_build(RetryingClient(data_dir), arn, data_dir, console=console))
    if image["state"]["status"] != "AVAILABLE":
        raise SystemExit(f"the build ended {image['state']}")
    return image


def approve(client: Any, arn: str, data_dir: Path) -> None:
    """Wait until a step of the image waits for an action, and answer it as a person would."""
    try:
        while not any(
            step["imageBuildVersionArn"] == arn for step in client.list_waiting_workflow_steps()["steps"]
        ):
            time.sleep(0.1)
    except BotoCoreError:
        return  # the demo was ended, and the server with it
    words = ("image", "approve", "/".join(arn.split("/")[1:]), "--reason", "jq is what was missing")
    console.print(f"imagesmith {shlex.join(words)}", style="bold")
    console.print(f"  {run_command(data_dir, *words).strip()}", soft_wrap=True)


def show_steps(data_dir: Path, image: dict[str, Any]) -> None:
    """What the workflows of an image did."""
    reference = "/".join(image["arn"].split("/")[1:])
    console.print(f"imagesmith image steps {reference}")
    lines = run_command(data_dir, "image", "steps", reference).splitlines()
    console.print("\n".join(f"  {line.rstrip()}" for line in lines), soft_wrap=True, highlight=False)


def create_approval(client: Any) -> list[dict[str, str]]:
    """The workflows of a build that asks before its tests: the managed ones, and one of our own between them."""
    made = client.create_workflow(
        name="demo-approval", semanticVersion="1.0.0", type="TEST", data=(HERE / "approval.yml").read_text()
    )
    managed = f"arn:aws:imagebuilder:{REGION}:aws:workflow"
    return [
        {"workflowArn": f"{managed}/build/build-container/x.x.x"},
        {"workflowArn": made["workflowBuildVersionArn"]},
        {"workflowArn": f"{managed}/test/test-container/x.x.x"},
    ]


def show_images(images: list[dict[str, Any]], data_dir: Path) -> None:
    builds = [read_details(settings_of(data_dir), image["arn"]) for image in images]
    table = Table("", *(image["version"] for image in images), title="what was built")
    table.add_row("image", *(image["arn"] for image in images))
    table.add_row("digest", *(build.digest for build in builds))
    table.add_row("size", *(human_size(build.size) for build in builds))
    table.add_row("packages", *(str(build.packages) for build in builds))
    for stage in dict.fromkeys(stage for build in builds for stage in build.stages):
        table.add_row(f"time {stage}", *(f"{build.stages.get(stage, 0):.1f} s" for build in builds))
    console.print(table)


def inspect(registry: str, image: dict[str, Any]) -> None:
    """Read the pushed image back with a tool that is not ours."""
    uri = image["outputResources"]["containers"][0]["imageUris"][0]
    done = subprocess.run(
        ["skopeo", "inspect", "--tls-verify=false", f"docker://{uri}"], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    console.print(f"skopeo inspect docker://{uri}")
    console.print(f"  digest {found['Digest']}, {len(found['Layers'])} layers, labels {found['Labels']}")
    # documents about an image are tagged with its digest where a registry knows no referrers
    tags = sorted(tag for tag in found["RepoTags"] if not tag.startswith("sha256-"))
    console.print(f"  tags {tags}, in the registry at {registry}")


def run_command(data_dir: Path, *words: str) -> str:
    """What a command of imagesmith prints; the demo ends when it fails."""
    command = [str(Path(sys.executable).parent / "imagesmith"), *words, "--data-dir", str(data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"imagesmith {' '.join(words)} failed: {done.stderr}")
    return done.stdout


def import_advisories(data_dir: Path) -> None:
    """A few real entries in the format of the Debian security tracker; operators import all of it."""
    feed = HERE / "advisories"
    console.print(f"imagesmith advisories import {feed.name}")
    console.print(f"  {run_command(data_dir, 'advisories', 'import', str(feed)).strip()}", soft_wrap=True)


def show_findings(client: Any, image: dict[str, Any]) -> None:
    """What the scan of an image found."""
    console.print(f"imagesmith image findings {'/'.join(image['arn'].split('/')[1:])}")
    console.print(describe_findings(findings_of(client, image["arn"]), image.get("scanState", {})))


def verify(data_dir: Path, image: dict[str, Any]) -> None:
    """Check the signed provenance that was pushed beside the image."""
    uri = image["outputResources"]["containers"][0]["imageUris"][0]
    console.print(f"imagesmith image verify {uri}")
    lines = run_command(data_dir, "image", "verify", uri).splitlines()
    console.print("\n".join(f"  {line.rstrip()}" for line in lines), soft_wrap=True)


def verify_with_cosign(data_dir: Path, image: dict[str, Any]) -> None:
    """Let a program that never heard of imagesmith check the provenance, with no more than the public key."""
    uri = image["outputResources"]["containers"][0]["imageUris"][0]
    words = ("verify-attestation", "--key", str(public_key_path(data_dir)), "--type", "slsaprovenance1")
    options = ("--insecure-ignore-tlog", "--allow-insecure-registry", "--allow-http-registry")
    command = [str(Path(sys.executable).parent / "cosign"), *words, *options, uri]
    environment = {"HOME": str(data_dir), "PATH": os.defpath}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        raise SystemExit(f"cosign does not accept the provenance: {done.stderr}")
    console.print(f"cosign {shlex.join(words)} {uri}", soft_wrap=True)
    for line in (*done.stderr.splitlines(), *done.stdout.splitlines()):
        if line.strip():
            # the payload is the whole statement in base64
            shown = line if len(line) <= _MOST_SHOWN else f"{line[:_MOST_SHOWN]}... ({len(line)} characters)"
            console.print(f"  {shown}", soft_wrap=True, highlight=False, markup=False)


def make_client(url: str, data_dir: Path) -> Any:
    """An ordinary client: the endpoint and the credentials are all that is ours."""
    key = first_key(data_dir, settings_of(data_dir))  # the first start of the server wrote it
    # not the type of the stubs: they demand client tokens, which botocore fills in
    return boto3.client(
        "imagebuilder",
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=key.access_key_id,
        aws_secret_access_key=key.secret,
    )


def build_twice(url: str, registry: str, data_dir: Path) -> None:
    """The whole job, against a server and a registry that run."""
    console.print(f"server {url}, registry {registry}")
    client = make_client(url, data_dir)
    clean_up(client)
    component = client.create_component(
        name=NAME, semanticVersion="1.0.0", platform="Linux", data=(HERE / "web-server.yml").read_text()
    )["componentBuildVersionArn"]
    recipe = create_recipe(client, "1.0.0", component, "nginx-light")
    infrastructure = client.create_infrastructure_configuration(name=NAME, instanceProfileName="demo")[
        "infrastructureConfigurationArn"
    ]
    distribution = client.create_distribution_configuration(
        name=NAME,
        distributions=[
            {
                "region": REGION,
                "containerDistributionConfiguration": {
                    "targetRepository": {"service": "ECR", "repositoryName": NAME},
                    "containerTags": ["latest"],
                },
            }
        ],
    )["distributionConfigurationArn"]
    pipeline = client.create_image_pipeline(
        name=NAME,
        containerRecipeArn=recipe,
        infrastructureConfigurationArn=infrastructure,
        distributionConfigurationArn=distribution,
    )["imagePipelineArn"]
    images = [build(client, pipeline, data_dir)]

    console.rule("recipe 1.0.1, UpdateImagePipeline with a scan and an approval, and again")
    import_advisories(data_dir)
    newer = create_recipe(client, "1.0.1", component, "nginx-light jq")
    client.update_image_pipeline(
        imagePipelineArn=pipeline,
        containerRecipeArn=newer,
        infrastructureConfigurationArn=infrastructure,
        distributionConfigurationArn=distribution,
        imageScanningConfiguration={"imageScanningEnabled": True},
        workflows=create_approval(client),
        executionRole="demo",
    )
    images.append(build(client, pipeline, data_dir, asks=True))
    show_steps(data_dir, images[-1])

    show_images(images, data_dir)
    before, after = (image["arn"] for image in images)
    console.print(
        describe_changes(compare_packages(packages_of(client, before), packages_of(client, after)), before, after)
    )
    inspect(registry, images[-1])
    show_findings(client, images[-1])
    verify(data_dir, images[-1])
    verify_with_cosign(data_dir, images[-1])
