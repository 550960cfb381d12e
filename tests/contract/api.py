"""The server under test, and short ways to make what a test needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore.config import Config

from imagesmith.store import queries
from imagesmith.store.database import Database
from imagesmith.wire.keys import KeyRing
from imagesmith.workflows.records import Records
from support import MovingClock

REGION = "eu-west-1"
ACCOUNT = "123456789012"

DOCUMENT = """\
name: hello
schemaVersion: 1.0
phases:
  - name: build
    steps:
      - name: Hello
        action: ExecuteBash
        inputs:
          commands:
            - echo hello
"""
PARAMETER_DOCUMENT = """\
name: hello
schemaVersion: 1.0
parameters:
  - Greeting:
      type: string
      default: hello
      description: What to say
  - Name:
      type: string
phases:
  - name: test
    steps:
      - name: Hello
        action: ExecuteBash
        inputs:
          commands:
            - echo {{ Greeting }} {{ Name }}
"""
WORKFLOW = """\
name: wait
schemaVersion: 1.0
parameters:
  - name: topic
    type: string
    default: ""
    description: Who is told
steps:
  - name: Ask
    action: WaitForAction
    inputs:
      snsTopicArn.$: "$.parameters.topic"
"""
TEMPLATE = """\
FROM {{{ imagebuilder:parentImage }}}
{{{ imagebuilder:environments }}}
{{{ imagebuilder:components }}}
"""


@dataclass
class RecordingBuilder:
    """A Builder that notes what it was asked to do."""

    started: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    woken: list[str] = field(default_factory=list)

    def start(self, image_arn: str) -> None:
        self.started.append(image_arn)

    def start_many(self, image_arns: Sequence[str]) -> None:
        for image_arn in image_arns:
            self.start(image_arn)

    def cancel(self, image_arn: str) -> None:
        self.cancelled.append(image_arn)

    def wake(self, image_arn: str) -> None:
        self.woken.append(image_arn)


@dataclass
class Api:
    """The server under test and everything a test asks of it."""

    client: Any
    """An ordinary boto3 client, untyped: the stubs call clientToken required, botocore fills it in."""
    url: str
    keys: KeyRing
    database: Database
    clock: MovingClock
    builds: RecordingBuilder
    records: Records
    sources: dict[str, str]

    def arn(self, kind: str, path: str, *, owner: str = ACCOUNT) -> str:
        return f"arn:aws:imagebuilder:{REGION}:{owner}:{kind}/{path}"

    def component(self, name: str = "hello", version: str = "1.0.0", **members: Any) -> str:
        request = {"name": name, "semanticVersion": version, "platform": "Linux", "data": DOCUMENT, **members}
        return self.client.create_component(**request)["componentBuildVersionArn"]

    def recipe(self, name: str = "web", version: str = "1.0.0", **members: Any) -> str:
        request: dict[str, Any] = {
            "containerType": "DOCKER", "name": name, "semanticVersion": version,
            "parentImage": self.arn("image", "debian-x86-12/x.x.x", owner="aws"),
            "dockerfileTemplateData": TEMPLATE, "components": [],
            "targetRepository": {"service": "ECR", "repositoryName": name}, **members,
        }  # fmt: skip
        if not request["components"]:
            request["components"] = [
                {"componentArn": self.arn("component", "hello-world-linux/x.x.x", owner="aws")}
            ]
        return self.client.create_container_recipe(**request)["containerRecipeArn"]

    def image_recipe(self, name: str = "box", version: str = "1.0.0", **members: Any) -> str:
        request = {
            "name": name, "semanticVersion": version, "parentImage": "ami-0123456789abcdef0",
            "components": [{"componentArn": self.arn("component", "hello-world-linux/x.x.x", owner="aws")}],
            **members,
        }  # fmt: skip
        return self.client.create_image_recipe(**request)["imageRecipeArn"]

    def workflow(self, name: str = "mine", version: str = "1.0.0", *, type: str = "TEST", **members: Any) -> str:
        request = {"name": name, "semanticVersion": version, "type": type, "data": WORKFLOW, **members}
        return self.client.create_workflow(**request)["workflowBuildVersionArn"]

    def infrastructure(self, name: str = "infra", **members: Any) -> str:
        request = {"name": name, "instanceProfileName": "profile", **members}
        return self.client.create_infrastructure_configuration(**request)["infrastructureConfigurationArn"]

    def distribution(self, name: str = "dist", **members: Any) -> str:
        container = {"targetRepository": {"service": "ECR", "repositoryName": "web"}, "containerTags": ["latest"]}
        request: dict[str, Any] = {
            "name": name,
            "distributions": [{"region": REGION, "containerDistributionConfiguration": container}],
            **members,
        }
        return self.client.create_distribution_configuration(**request)["distributionConfigurationArn"]

    def pipeline(self, name: str = "pipe", **members: Any) -> str:
        request = {"name": name, **members}
        if "containerRecipeArn" not in request and "imageRecipeArn" not in request:
            request["containerRecipeArn"] = self.recipe(name=f"{name}-recipe")
        if "infrastructureConfigurationArn" not in request:
            request["infrastructureConfigurationArn"] = self.infrastructure(name=f"{name}-infra")
        return self.client.create_image_pipeline(**request)["imagePipelineArn"]

    def get_pipeline(self, arn: str) -> dict[str, Any]:
        return dict(self.client.get_image_pipeline(imagePipelineArn=arn)["imagePipeline"])

    def set_state(self, image_arn: str, status: str, **outcome: Any) -> None:
        """End a build the way the engine does."""
        self.records.note(image_arn, **outcome)
        self.records.finish(image_arn, status)

    def rows(self) -> int:
        """How many resources are stored."""
        with self.database.read() as tx:
            kinds = (
                "image-pipeline", "component", "container-recipe", "image-recipe", "image",
                "infrastructure-configuration", "distribution-configuration", "workflow",
            )  # fmt: skip
            own = [queries.Selection(account=ACCOUNT, region=REGION, kind=kind) for kind in kinds]
            return sum(queries.count(tx, selection) for selection in own)


def client_for(url: str, access_key_id: str, secret: str, *, region: str = REGION) -> Any:
    return boto3.client(
        "imagebuilder",
        endpoint_url=url,
        region_name=region,
        aws_access_key_id=access_key_id,
        aws_secret_access_key=secret,
        config=Config(retries={"max_attempts": 0}),
    )
