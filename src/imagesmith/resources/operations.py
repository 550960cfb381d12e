"""The operations that are built: name -> handler, and whether it writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from imagesmith.resources import (
    components,
    container_recipes,
    distributions,
    executions,
    image_recipes,
    images,
    infrastructure,
    pipelines,
    retries,
    scans,
    tags,
    workflows,
)
from imagesmith.resources.call import Call

Handler = Callable[[Call, Mapping[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Operation:
    """A handler; `source` names the request member that holds an `s3://` source."""

    handler: Handler
    writes: bool = False
    source: str = ""
    short: bool = False
    """Its work takes less than a millisecond, on a few rows, and nothing but the database is asked or told."""


def built_operations() -> dict[str, Operation]:
    """The table of everything that does not answer 501."""
    return {
        "CreateImagePipeline": Operation(pipelines.create, writes=True, short=True),
        "GetImagePipeline": Operation(pipelines.get, short=True),
        "UpdateImagePipeline": Operation(pipelines.update, writes=True, short=True),
        "DeleteImagePipeline": Operation(pipelines.delete, writes=True, short=True),
        "ListImagePipelines": Operation(pipelines.list_all),
        "ListImagePipelineImages": Operation(pipelines.list_images),
        "StartImagePipelineExecution": Operation(pipelines.start_execution, writes=True),
        "CreateComponent": Operation(components.create, writes=True, source="uri"),
        "GetComponent": Operation(components.get, short=True),
        "DeleteComponent": Operation(components.delete, writes=True),
        "ListComponents": Operation(components.list_versions),
        "ListComponentBuildVersions": Operation(components.list_builds),
        "CreateContainerRecipe": Operation(container_recipes.create, writes=True, source="dockerfileTemplateUri"),
        "GetContainerRecipe": Operation(container_recipes.get, short=True),
        "DeleteContainerRecipe": Operation(container_recipes.delete, writes=True),
        "ListContainerRecipes": Operation(container_recipes.list_all),
        "CreateImageRecipe": Operation(image_recipes.create, writes=True),
        "GetImageRecipe": Operation(image_recipes.get, short=True),
        "DeleteImageRecipe": Operation(image_recipes.delete, writes=True),
        "ListImageRecipes": Operation(image_recipes.list_all),
        "CreateInfrastructureConfiguration": Operation(infrastructure.create, writes=True, short=True),
        "GetInfrastructureConfiguration": Operation(infrastructure.get, short=True),
        "UpdateInfrastructureConfiguration": Operation(infrastructure.update, writes=True, short=True),
        "DeleteInfrastructureConfiguration": Operation(infrastructure.delete, writes=True, short=True),
        "ListInfrastructureConfigurations": Operation(infrastructure.list_all),
        "CreateDistributionConfiguration": Operation(distributions.create, writes=True, short=True),
        "GetDistributionConfiguration": Operation(distributions.get, short=True),
        "UpdateDistributionConfiguration": Operation(distributions.update, writes=True, short=True),
        "DeleteDistributionConfiguration": Operation(distributions.delete, writes=True, short=True),
        "ListDistributionConfigurations": Operation(distributions.list_all),
        "CreateImage": Operation(images.create, writes=True),
        "GetImage": Operation(images.get, short=True),
        "ListImages": Operation(images.list_versions),
        "ListImageBuildVersions": Operation(images.list_builds),
        "CancelImageCreation": Operation(images.cancel, writes=True),
        "DeleteImage": Operation(images.delete, writes=True),
        "ListImagePackages": Operation(images.list_packages),
        "ListImageScanFindings": Operation(scans.list_findings),
        "ListImageScanFindingAggregations": Operation(scans.list_aggregations),
        "CreateWorkflow": Operation(workflows.create, writes=True, source="uri"),
        "GetWorkflow": Operation(workflows.get, short=True),
        "DeleteWorkflow": Operation(workflows.delete, writes=True),
        "ListWorkflows": Operation(workflows.list_versions),
        "ListWorkflowBuildVersions": Operation(workflows.list_builds),
        "ListWorkflowExecutions": Operation(executions.list_executions),
        "GetWorkflowExecution": Operation(executions.get_execution),
        "ListWorkflowStepExecutions": Operation(executions.list_steps),
        "GetWorkflowStepExecution": Operation(executions.get_step),
        "ListWaitingWorkflowSteps": Operation(executions.list_waiting),
        "SendWorkflowStepAction": Operation(executions.send_action, writes=True),
        "RetryImage": Operation(retries.retry, writes=True),
        "TagResource": Operation(tags.tag, writes=True, short=True),
        "UntagResource": Operation(tags.untag, writes=True, short=True),
        "ListTagsForResource": Operation(tags.list_tags, short=True),
    }
