"""The implemented operations: name -> handler, and whether it writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from imagesmith.resources import (
    components,
    container_recipes,
    distribute_image,
    distributions,
    image_recipes,
    images,
    import_component,
    import_image,
    infrastructure,
    lifecycle_executions,
    lifecycle_policies,
    marketplace,
    pipelines,
    policies,
    retry_image,
    run_members,
    scans,
    state_updates,
    tags,
    workflow_executions,
    workflows,
)
from imagesmith.resources.call import Handler
from imagesmith.resources.lifecycle_checks import check_policy, check_update
from imagesmith.resources.member_rules import Rule, no_version_with_names, one_source
from imagesmith.resources.workflow_members import check_entries


@dataclass(frozen=True)
class BuiltOperation:
    """A handler; `source` names the request member that holds an `s3://` source."""

    handler: Handler
    writes: bool = False
    source: str = ""
    short: bool = False
    """It takes less than a millisecond, on a few rows, and uses nothing but the database."""
    rules: tuple[Rule, ...] = ()
    """Checked in this order, before anything is looked up."""


_DOCUMENT: Final = (one_source("data", "uri"),)
_RUN: Final = (run_members.one_recipe, check_entries, run_members.log_groups_with_role, run_members.check_scanning)


def built_operations() -> dict[str, BuiltOperation]:
    """The table of all operations that do not answer 501."""
    families = (
        _pipelines(),
        _components(),
        _recipes(),
        _configurations(),
        _images(),
        _workflows(),
        _resource_policies(),
        _lifecycle(),
        _others(),
    )
    return {name: operation for family in families for name, operation in family.items()}


def _pipelines() -> dict[str, BuiltOperation]:
    """Image pipelines and their runs."""
    pipeline = (*_RUN, pipelines.check_schedule)
    return {
        "CreateImagePipeline": BuiltOperation(pipelines.create, writes=True, short=True, rules=pipeline),
        "GetImagePipeline": BuiltOperation(pipelines.get, short=True),
        "UpdateImagePipeline": BuiltOperation(pipelines.update, writes=True, short=True, rules=pipeline),
        "DeleteImagePipeline": BuiltOperation(pipelines.delete, writes=True, short=True),
        "ListImagePipelines": BuiltOperation(pipelines.list_all),
        "ListImagePipelineImages": BuiltOperation(pipelines.list_images),
        "StartImagePipelineExecution": BuiltOperation(pipelines.start_execution, writes=True),
    }


def _components() -> dict[str, BuiltOperation]:
    """Components."""
    return {
        "CreateComponent": BuiltOperation(components.create, writes=True, source="uri", rules=_DOCUMENT),
        "ImportComponent": BuiltOperation(
            import_component.import_component, writes=True, source="uri", rules=_DOCUMENT
        ),
        "GetComponent": BuiltOperation(components.get, short=True),
        "DeleteComponent": BuiltOperation(components.delete, writes=True),
        "ListComponents": BuiltOperation(components.list_versions, rules=(no_version_with_names,)),
        "ListComponentBuildVersions": BuiltOperation(components.list_builds),
    }


def _recipes() -> dict[str, BuiltOperation]:
    """Image recipes and container recipes."""
    return {
        "CreateContainerRecipe": BuiltOperation(
            container_recipes.create,
            writes=True,
            source="dockerfileTemplateUri",
            rules=(one_source("dockerfileTemplateData", "dockerfileTemplateUri"), container_recipes.check_members),
        ),
        "GetContainerRecipe": BuiltOperation(container_recipes.handlers.get, short=True),
        "DeleteContainerRecipe": BuiltOperation(container_recipes.handlers.delete, writes=True),
        "ListContainerRecipes": BuiltOperation(container_recipes.handlers.list_all),
        "CreateImageRecipe": BuiltOperation(
            image_recipes.create, writes=True, rules=(image_recipes.check_members,)
        ),
        "GetImageRecipe": BuiltOperation(image_recipes.handlers.get, short=True),
        "DeleteImageRecipe": BuiltOperation(image_recipes.handlers.delete, writes=True),
        "ListImageRecipes": BuiltOperation(image_recipes.handlers.list_all),
    }


def _configurations() -> dict[str, BuiltOperation]:
    """Infrastructure and distribution configurations."""
    return {
        "CreateInfrastructureConfiguration": BuiltOperation(
            infrastructure.handlers.create, writes=True, short=True, rules=(infrastructure.check_members,)
        ),
        "GetInfrastructureConfiguration": BuiltOperation(infrastructure.handlers.get, short=True),
        "UpdateInfrastructureConfiguration": BuiltOperation(
            infrastructure.handlers.update, writes=True, short=True, rules=(infrastructure.check_members,)
        ),
        "DeleteInfrastructureConfiguration": BuiltOperation(
            infrastructure.handlers.delete, writes=True, short=True
        ),
        "ListInfrastructureConfigurations": BuiltOperation(infrastructure.handlers.list_all),
        "CreateDistributionConfiguration": BuiltOperation(
            distributions.handlers.create, writes=True, short=True, rules=(distributions.check_members,)
        ),
        "GetDistributionConfiguration": BuiltOperation(distributions.handlers.get, short=True),
        "UpdateDistributionConfiguration": BuiltOperation(
            distributions.handlers.update, writes=True, short=True, rules=(distributions.check_members,)
        ),
        "DeleteDistributionConfiguration": BuiltOperation(distributions.handlers.delete, writes=True, short=True),
        "ListDistributionConfigurations": BuiltOperation(distributions.handlers.list_all),
    }


def _images() -> dict[str, BuiltOperation]:
    """Images: made, distributed, imported, scanned, tried again."""
    return {
        "CreateImage": BuiltOperation(images.create, writes=True, rules=_RUN),
        "DistributeImage": BuiltOperation(
            distribute_image.distribute, writes=True, rules=(run_members.log_groups_with_role,)
        ),
        "ImportVmImage": BuiltOperation(
            import_image.import_vm, writes=True, rules=(import_image.check_disk, run_members.own_log_groups)
        ),
        "ImportDiskImage": BuiltOperation(
            import_image.import_iso, writes=True, rules=(import_image.check_iso, run_members.log_groups_with_role)
        ),
        "GetImage": BuiltOperation(images.get, short=True),
        "ListImages": BuiltOperation(images.list_versions, rules=(no_version_with_names,)),
        "ListImageBuildVersions": BuiltOperation(images.list_builds),
        "CancelImageCreation": BuiltOperation(images.cancel, writes=True),
        "DeleteImage": BuiltOperation(images.delete, writes=True),
        "ListImagePackages": BuiltOperation(images.list_packages),
        "ListImageScanFindings": BuiltOperation(scans.list_findings),
        "ListImageScanFindingAggregations": BuiltOperation(scans.list_aggregations),
        "RetryImage": BuiltOperation(retry_image.retry, writes=True),
    }


def _workflows() -> dict[str, BuiltOperation]:
    """Workflows, their executions and steps."""
    return {
        "CreateWorkflow": BuiltOperation(workflows.create, writes=True, source="uri", rules=_DOCUMENT),
        "GetWorkflow": BuiltOperation(workflows.get, short=True),
        "DeleteWorkflow": BuiltOperation(workflows.delete, writes=True),
        "ListWorkflows": BuiltOperation(workflows.list_versions, rules=(no_version_with_names,)),
        "ListWorkflowBuildVersions": BuiltOperation(workflows.list_builds),
        "ListWorkflowExecutions": BuiltOperation(workflow_executions.list_executions),
        "GetWorkflowExecution": BuiltOperation(workflow_executions.get_execution),
        "ListWorkflowStepExecutions": BuiltOperation(workflow_executions.list_steps),
        "GetWorkflowStepExecution": BuiltOperation(workflow_executions.get_step),
        "ListWaitingWorkflowSteps": BuiltOperation(workflow_executions.list_waiting),
        "SendWorkflowStepAction": BuiltOperation(workflow_executions.send_action, writes=True),
    }


def _resource_policies() -> dict[str, BuiltOperation]:
    """Policies by which resources are shared."""
    component_policies = policies.handlers("component", "componentArn")
    image_policies = policies.handlers("image", "imageArn")
    image_recipe_policies = policies.handlers("image-recipe", "imageRecipeArn")
    container_recipe_policies = policies.handlers("container-recipe", "containerRecipeArn")
    return {
        "PutComponentPolicy": BuiltOperation(component_policies.put, writes=True),
        "GetComponentPolicy": BuiltOperation(component_policies.get, short=True),
        "PutImagePolicy": BuiltOperation(image_policies.put, writes=True),
        "GetImagePolicy": BuiltOperation(image_policies.get, short=True),
        "PutImageRecipePolicy": BuiltOperation(image_recipe_policies.put, writes=True),
        "GetImageRecipePolicy": BuiltOperation(image_recipe_policies.get, short=True),
        "PutContainerRecipePolicy": BuiltOperation(container_recipe_policies.put, writes=True),
        "GetContainerRecipePolicy": BuiltOperation(container_recipe_policies.get, short=True),
    }


def _lifecycle() -> dict[str, BuiltOperation]:
    """Lifecycle policies, their executions, updates of states."""
    return {
        "CreateLifecyclePolicy": BuiltOperation(lifecycle_policies.create, writes=True, rules=(check_policy,)),
        "GetLifecyclePolicy": BuiltOperation(lifecycle_policies.get, short=True),
        "UpdateLifecyclePolicy": BuiltOperation(lifecycle_policies.update, writes=True, rules=(check_policy,)),
        "DeleteLifecyclePolicy": BuiltOperation(lifecycle_policies.delete, writes=True),
        "ListLifecyclePolicies": BuiltOperation(lifecycle_policies.list_all),
        "GetLifecycleExecution": BuiltOperation(lifecycle_executions.get),
        "ListLifecycleExecutions": BuiltOperation(lifecycle_executions.list_all),
        "ListLifecycleExecutionResources": BuiltOperation(lifecycle_executions.list_resources),
        "CancelLifecycleExecution": BuiltOperation(lifecycle_executions.cancel, writes=True),
        "StartResourceStateUpdate": BuiltOperation(state_updates.start, writes=True, rules=(check_update,)),
    }


def _others() -> dict[str, BuiltOperation]:
    """Tags, and products of the Marketplace."""
    return {
        "GetMarketplaceResource": BuiltOperation(marketplace.get_resource),
        "TagResource": BuiltOperation(tags.tag, writes=True, short=True),
        "UntagResource": BuiltOperation(tags.untag, writes=True, short=True),
        "ListTagsForResource": BuiltOperation(tags.list_tags, short=True),
    }
