"""A server with a resource of every kind, for tables over operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from testing.api import ACCOUNT, REGION, Api

UNKNOWN_ID = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True)
class Inhabited:
    """ARNs by ARN type; of images one that is AVAILABLE."""

    arns: Mapping[str, str]

    def __getitem__(self, kind: str) -> str:
        return self.arns[kind]


def inhabit(api: Api) -> Inhabited:
    """Make one resource of every kind."""
    component, recipe = api.component(name="Known One"), api.recipe(name="Known One")
    infrastructure, distribution = api.infrastructure(name="Known One"), api.distribution(name="Known One")
    pipeline = api.pipeline(
        name="Known One", containerRecipeArn=recipe, infrastructureConfigurationArn=infrastructure,
        distributionConfigurationArn=distribution,
    )  # fmt: skip
    image = str(api.client.start_image_pipeline_execution(imagePipelineArn=pipeline)["imageBuildVersionArn"])
    api.set_state(image, "AVAILABLE", digest="sha256:" + "1" * 64)
    return Inhabited(
        {
            "component": component, "container-recipe": recipe, "image-recipe": api.image_recipe(name="Known One"),
            "infrastructure-configuration": infrastructure, "distribution-configuration": distribution,
            "image-pipeline": pipeline, "image": image, "workflow": api.workflow(name="Known One"),
            "lifecycle-policy": lifecycle_policy(api, "Known One"),
        }
    )  # fmt: skip


def lifecycle_policy(api: Api, name: str, **members: Any) -> str:
    request = {**POLICY, "name": name, **members}
    return str(api.client.create_lifecycle_policy(**request)["lifecyclePolicyArn"])


POLICY: Mapping[str, Any] = {
    "executionRole": f"arn:aws:iam::{ACCOUNT}:role/lifecycle", "resourceType": "CONTAINER_IMAGE",
    "policyDetails": [{"action": {"type": "DELETE"}, "filter": {"type": "COUNT", "value": 3}}],
    "resourceSelection": {"tagMap": {"team": "web"}},
}  # fmt: skip
"""The members that a policy needs, besides its name."""


def unknown_arn(kind: str) -> str:
    """A well-formed ARN of a type of resource, of something that does not exist."""
    path = {
        "component": "component/absent/1.0.0/1", "container-recipe": "container-recipe/absent/1.0.0",
        "image": "image/absent/1.0.0/1", "image-recipe": "image-recipe/absent/1.0.0",
        "workflow": "workflow/test/absent/1.0.0/1",
    }.get(kind, f"{kind}/absent")  # fmt: skip
    return f"arn:aws:imagebuilder:{REGION}:{ACCOUNT}:{path}"
