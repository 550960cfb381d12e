"""Container recipes: a Dockerfile template, a parent and components (spec/api.md 6.2)."""

from __future__ import annotations

from imagesmith.recipes.parents import ParentKind, classify_parent, is_public_ecr
from imagesmith.resources import recipes
from imagesmith.resources.call import Call
from imagesmith.resources.configurations import select_members
from imagesmith.resources.errors import invalid_combination, invalid_value
from imagesmith.resources.lists import member
from imagesmith.resources.recipes import RecipeKind
from imagesmith.resources.repository_checks import check_repository
from imagesmith.resources.sources import given_document
from imagesmith.settings import Settings
from imagesmith.store.internal_members import InternalMembers
from imagesmith.store.records import Record
from imagesmith.values.api import ApiDocument, ApiRequest, ApiResponse
from imagesmith.values.diagnostics import errors_of

_COPIED = (
    "containerType", "description", "instanceConfiguration", "parentImage", "workingDirectory", "targetRepository",
    "kmsKeyId",
)  # fmt: skip


def _summary(record: Record) -> ApiDocument:
    shown = recipes.summary(record, (*recipes.SUMMARY, "containerType"))
    image = record.document.get("instanceConfiguration", {}).get("image")
    return {**shown, "instanceImage": image} if image else shown


KIND = RecipeKind(
    kind="container-recipe",
    arn_member="containerRecipeArn",
    result_member="containerRecipe",
    list_member="containerRecipeSummaryList",
    plural="container recipes",
    quota=lambda call: call.settings.quotas.container_recipes,
    filters={name: member(name) for name in ("containerType", "name", "parentImage", "platform")},
    summary=_summary,
    kept_while_shared=True,
    owners=("Self", "Shared", "Amazon"),
)


def check_members(request: ApiRequest, _settings: Settings) -> None:
    """Rules between the members of a container recipe. Raises ApiError."""
    if request.get("platformOverride") == "macOS":
        raise invalid_value("platformOverride", "Container images cannot be built for macOS.")
    check_repository("targetRepository", request.get("targetRepository", {}))
    if is_public_ecr(request["parentImage"]) and "platformOverride" not in request:
        raise invalid_combination(
            "parentImage",
            "You must specify a platform override when using ECR Public Repositories as your parent image.",
        )
    kind, version = classify_parent(request["parentImage"]).kind, request.get("imageOsVersionOverride")
    if kind is ParentKind.REGISTRY and request.get("platformOverride") == "Windows" and version is None:
        raise invalid_combination(
            "parentImage",
            "You must specify an image OsVersion override when using ECR Repositories as your parent image for "
            "Windows Platform.",
        )
    if kind is ParentKind.IMAGE and version is not None:
        raise invalid_combination("imageOsVersionOverride", "It is only valid with a parent image of a registry.")


def create(call: Call, request: ApiRequest) -> ApiResponse:
    template, path = given_document(
        call, request, inline="dockerfileTemplateData", uri="dockerfileTemplateUri", noun="Dockerfile template"
    )
    parent = recipes.check_parent(call, request["parentImage"], container=True)
    platform = parent.platform or request.get("platformOverride", "Linux")
    properties = recipes.ParentProperties(
        platform, parent.os_version or request.get("imageOsVersionOverride"), parent.needs
    )
    entries, needs = recipes.check_components(call, request, properties, container=True)
    _check_template(template, path, has_components=bool(entries))
    content = {
        **select_members(request, _COPIED),
        "platform": platform,
        "components": entries,
        "dockerfileTemplateData": template,
        "encrypted": True,
    }
    internal = InternalMembers(os_version=request.get("imageOsVersionOverride", ""))
    return recipes.create(KIND, call, request, content, [*needs, *parent.needs], internal=internal)


handlers = recipes.handlers(KIND)


def _check_template(template: str, path: str, *, has_components: bool) -> None:
    """Refuse a template with problems; the message names all of them. Raises ApiError."""
    from imagesmith.dockerfiles.template import check_template  # late: cli/startup.py

    problems = errors_of(check_template(template, has_components=has_components))
    if problems:
        raise invalid_value(path, " ".join(problem.render("Dockerfile") + "." for problem in problems))
