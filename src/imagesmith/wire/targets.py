"""What a request is about, for policies of access keys and for the audit log.

    UpdateImagePipeline {imagePipelineArn, containerRecipeArn, ...}
      main        the pipeline, judged under imagebuilder:UpdateImagePipeline
      references  the recipe and the others, each judged under the Get operation of its type

The main resource of an operation that creates one is the ARN that it gets, and of a list of everything all
resources of the account in the Region. The members are those that were sent: nothing here trusts their types.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from imagesmith.values.arn import RESOURCE_NAMES, Arn, ArnError, slug_of

_LONGEST: Final = 1024
_CREATED: Final = MappingProxyType(
    {
        "CreateComponent": "component",
        "CreateContainerRecipe": "container-recipe",
        "CreateDistributionConfiguration": "distribution-configuration",
        "CreateImagePipeline": "image-pipeline",
        "CreateImageRecipe": "image-recipe",
        "CreateInfrastructureConfiguration": "infrastructure-configuration",
        "CreateLifecyclePolicy": "lifecycle-policy",
        "CreateWorkflow": "workflow",
        "ImportComponent": "component",
        "ImportDiskImage": "image",
        "ImportVmImage": "image",
    }
)
"""Operations with a name -> the ARN type of what they create."""
_MAIN: Final = MappingProxyType(
    {
        "DistributeImage": "sourceImage",
        "UpdateDistributionConfiguration": "distributionConfigurationArn",
        "UpdateImagePipeline": "imagePipelineArn",
        "UpdateInfrastructureConfiguration": "infrastructureConfigurationArn",
    }
)
"""Operations with several ARNs -> the member of the resource that they are about."""
_IDS: Final = MappingProxyType(
    {
        "lifecycleExecutionId": "lifecycle-execution",
        "stepExecutionId": "workflow-step-execution",
        "workflowExecutionId": "workflow-execution",
    }
)
"""Members with an id -> the ARN type in IAM."""
_REFERENCES: Final = frozenset({"parentImage", "sourceImage"})
"""Members besides those that end in Arn whose value may be an ARN."""


@dataclass(frozen=True)
class Targets:
    """The resources of a request."""

    main: str
    references: tuple[tuple[str, str], ...] = ()
    """Operation and ARN of each resource that is only named."""


def main_target(operation: str, members: Mapping[str, Any], prefix: str) -> str:
    """The main resource alone; `prefix` is that of the ARNs of the account in the Region, with its last colon."""
    return _main(operation, members, prefix)[1]


def targets_of(operation: str, members: Mapping[str, Any], prefix: str) -> Targets:
    """All resources of a request; `prefix` as for main_target."""
    name, main = _main(operation, members, prefix)
    others = dict.fromkeys(arn for member, arn in _arns(members) if (member, arn) != (name, main))
    return Targets(main=main, references=tuple(_judged(others)))


def _main(operation: str, members: Mapping[str, Any], prefix: str) -> tuple[str, str]:
    """The member of the main resource, if it has one, and its ARN."""
    if operation in _CREATED:
        return "", prefix + _created_path(_CREATED[operation], members)
    if operation == "CreateImage":
        return "", prefix + _image_path(members)
    for member, kind in _IDS.items():
        value = members.get(member)
        if isinstance(value, str):
            return member, f"{prefix}{kind}/{value[:_LONGEST]}"
    names = [_MAIN[operation]] if operation in _MAIN else [name for name in members if name.endswith("Arn")]
    for name in names:
        value = members.get(name)
        if isinstance(value, str) and value.startswith("arn:") and len(value) <= _LONGEST:
            return name, value
    return "", f"{prefix}*"


def _created_path(kind: str, members: Mapping[str, Any]) -> str:
    path = [kind]
    if kind == "workflow":
        path.append(_text(members.get("type")).lower() or "*")
    path.append(slug_of(_text(members.get("name"))) or "*")
    if kind in ("component", "container-recipe", "image-recipe", "image", "workflow"):
        path.append(_text(members.get("semanticVersion")) or "*")
    return "/".join(path)


def _image_path(members: Mapping[str, Any]) -> str:
    """The path of the image that a recipe makes: name and version are those of the recipe."""
    for name in ("containerRecipeArn", "imageRecipeArn"):
        try:
            recipe = Arn.parse(_text(members.get(name)))
        except ArnError:
            continue
        return f"image/{recipe.slug}/{recipe.version or '*'}"
    return "image/*"


def _text(value: Any) -> str:
    return value[:_LONGEST] if isinstance(value, str) else ""


def _arns(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every ARN with the name of its member, at any depth; texts such as descriptions are not looked into."""
    if isinstance(value, Mapping):
        for member, item in value.items():
            yield from _arns(item, member)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _arns(item, name)
    elif isinstance(value, str) and (name.endswith("Arn") or name in _REFERENCES):
        yield name, value


def _judged(arns: Mapping[str, None]) -> Iterator[tuple[str, str]]:
    for text in arns:
        try:
            arn = Arn.parse(text)
        except ArnError:
            continue  # of another service, or refused by the checks of the members
        yield f"Get{RESOURCE_NAMES[arn.kind]}", text
