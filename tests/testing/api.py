"""The server under test, and short ways to make what a test needs."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from imagesmith.accounts.keys import KeyRing
from imagesmith.builds.inspection_records import InspectionRecords
from imagesmith.builds.outcomes import BuildOutcomes
from imagesmith.builds.records import ImageRecords
from imagesmith.store import queries
from imagesmith.store.database import Database
from imagesmith.values.states import ImageStatus
from testing.clocks import MovingClock

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
    records: ImageRecords
    sources: dict[str, str]

    def arn(self, kind: str, path: str, *, owner: str = ACCOUNT) -> str:
        return f"arn:aws:imagebuilder:{REGION}:{owner}:{kind}/{path}"

    def component(self, name: str = "hello", version: str = "1.0.0", **members: Any) -> str:
        request = {"name": name, "semanticVersion": version, "platform": "Linux", "data": DOCUMENT, **members}
        return str(self.client.create_component(**request)["componentBuildVersionArn"])

    def recipe(self, name: str = "web", version: str = "1.0.0", **members: Any) -> str:
        request: dict[str, Any] = {
            "containerType": "DOCKER", "name": name, "semanticVersion": version,
            "parentImage": self.arn("image", "debian-x86-12/x.x.x", owner="aws"),
            "dockerfileTemplateData": TEMPLATE, "components": [],
            "targetRepository": {"service": "ECR", "repositoryName": name.lower().replace(" ", "-")}, **members,
        }  # fmt: skip
        if not request["components"]:
            request["components"] = [
                {"componentArn": self.arn("component", "hello-world-linux/x.x.x", owner="aws")}
            ]
        return str(self.client.create_container_recipe(**request)["containerRecipeArn"])

    def image_recipe(self, name: str = "box", version: str = "1.0.0", **members: Any) -> str:
        request = {
            "name": name, "semanticVersion": version, "parentImage": "ami-0123456789abcdef0",
            "components": [{"componentArn": self.arn("component", "hello-world-linux/x.x.x", owner="aws")}],
            **members,
        }  # fmt: skip
        return str(self.client.create_image_recipe(**request)["imageRecipeArn"])

    def workflow(self, name: str = "mine", version: str = "1.0.0", *, type: str = "TEST", **members: Any) -> str:
        request = {"name": name, "semanticVersion": version, "type": type, "data": WORKFLOW, **members}
        return str(self.client.create_workflow(**request)["workflowBuildVersionArn"])

    def infrastructure(self, name: str = "infra", **members: Any) -> str:
        request = {"name": name, "instanceProfileName": "profile", **members}
        return str(self.client.create_infrastructure_configuration(**request)["infrastructureConfigurationArn"])

    def distribution(self, name: str = "dist", **members: Any) -> str:
        container = {"targetRepository": {"service": "ECR", "repositoryName": "web"}, "containerTags": ["latest"]}
        request: dict[str, Any] = {
            "name": name,
            "distributions": [{"region": REGION, "containerDistributionConfiguration": container}],
            **members,
        }
        return str(self.client.create_distribution_configuration(**request)["distributionConfigurationArn"])

    def pipeline(self, name: str = "pipe", **members: Any) -> str:
        request = {"name": name, **members}
        if "containerRecipeArn" not in request and "imageRecipeArn" not in request:
            request["containerRecipeArn"] = self.recipe(name=f"{name}-recipe")
        if "infrastructureConfigurationArn" not in request:
            request["infrastructureConfigurationArn"] = self.infrastructure(name=f"{name}-infra")
        return str(self.client.create_image_pipeline(**request)["imagePipelineArn"])

    def get_pipeline(self, arn: str) -> dict[str, Any]:
        return dict(self.client.get_image_pipeline(imagePipelineArn=arn)["imagePipeline"])

    @property
    def inspections(self) -> InspectionRecords:
        return InspectionRecords(self.database, self.clock)

    def set_state(self, image_arn: str, status: str, *, digest: str = "") -> None:
        """End a build the way the engine does."""
        BuildOutcomes(self.database).keep_output(image_arn, digest=digest, size=0, parent_digest="")
        self.records.finish(image_arn, ImageStatus(status))

    def rows(self) -> int:
        """How many resources are stored."""
        with self.database.read() as tx:
            kinds = (
                "image-pipeline", "component", "container-recipe", "image-recipe", "image",
                "infrastructure-configuration", "distribution-configuration", "workflow", "lifecycle-policy",
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


def raw_update(api: Api, members: dict[str, Any]) -> tuple[int, http.client.HTTPMessage, str]:
    """One update without a client library; gives status, headers and the message of an error."""
    key, body = api.keys.keys[0], json.dumps(members).encode()
    request = AWSRequest("PUT", f"{api.url}/UpdateImagePipeline", data=body)
    SigV4Auth(Credentials(key.access_key_id, key.secret), "imagebuilder", REGION).add_auth(request)
    connection = http.client.HTTPConnection(urlsplit(api.url).netloc, timeout=30)
    try:
        connection.request("PUT", "/UpdateImagePipeline", body, dict(request.headers.items()))
        answer = connection.getresponse()
        return answer.status, answer.headers, json.loads(answer.read()).get("message", "")
    finally:
        connection.close()


def create(api: Api, recipe: str, **members: object) -> str:
    infrastructure = api.infrastructure(name=f"infra-{api.rows()}")
    made = api.client.create_image(
        containerRecipeArn=recipe, infrastructureConfigurationArn=infrastructure, **members
    )
    return str(made["imageBuildVersionArn"])


def required(api: Api, arn: str) -> dict[str, Any]:
    """The members that every update of a pipeline needs."""
    document = api.get_pipeline(arn)
    return {
        "imagePipelineArn": arn,
        "containerRecipeArn": document["containerRecipeArn"],
        "infrastructureConfigurationArn": document["infrastructureConfigurationArn"],
    }


def write_keys(data_dir: Path, *entries: dict[str, Any]) -> None:
    """The key file of a server that starts later."""
    data_dir.mkdir()
    path = data_dir / "keys.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps({"keys": entries}))


def as_key(api: Api, entry: dict[str, Any]) -> Api:
    """The same server, asked with another key."""
    client = client_for(api.url, entry["accessKeyId"], entry["secretAccessKey"])
    return Api(client, api.url, api.keys, api.database, api.clock, api.builds, api.records, api.sources)


MakeApi = Callable[..., Api]
"""Starts a server with changed settings."""
