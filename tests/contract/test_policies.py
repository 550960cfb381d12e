"""Resource policies and sharing between accounts over HTTP (spec/api.md 4.11)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imagesmith.store.policies import get_policy, put_policy
from testing.api import ACCOUNT, DOCUMENT, Api, MakeApi, as_key, create, write_keys
from testing.refusals import refused

OTHER = "444455556666"
STRANGER = "777788889999"


def key(account: str, **more: Any) -> dict[str, Any]:
    return {"accessKeyId": f"AKIA{account}0000", "secretAccessKey": account * 3, "account": account, **more}


@pytest.fixture
def make_owner(make_api: MakeApi, tmp_path: Path) -> Callable[[], Api]:
    def make() -> Api:
        ci = {**key(OTHER, user="ci"), "accessKeyId": "AKIACI00000000000000"}
        write_keys(tmp_path / "data", key(ACCOUNT), key(OTHER), key(STRANGER), ci)
        return make_api()

    return make


@pytest.fixture
def owner(make_owner: Callable[[], Api]) -> Api:
    """The account that shares; `as_key` asks the same server from others."""
    return make_owner()


@pytest.fixture
def other(owner: Api) -> Api:
    return as_key(owner, key(OTHER))


def promote(api: Api, arn: str) -> None:
    """As `imagesmith share promote` does."""
    with api.database.write() as tx:
        policy = get_policy(tx, arn)
        assert policy is not None
        put_policy(tx, replace(policy, promoted=True))


class Kind:
    """One type of resource with a policy, by the names of its operations."""

    def __init__(self, name: str, member: str, get_member: str, make: Callable[[Api], str]) -> None:
        self.name, self.member, self.get_member, self.make = name, member, get_member, make
        words = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
        self._words = words.removeprefix("_")

    def __repr__(self) -> str:
        return self.name

    def put(self, api: Api, arn: str, policy: str) -> Any:
        return getattr(api.client, f"put_{self._words}_policy")(**{self.member: arn, "policy": policy})

    def policy(self, api: Api, arn: str) -> str:
        return str(getattr(api.client, f"get_{self._words}_policy")(**{self.member: arn})["policy"])

    def get(self, api: Api, arn: str) -> dict[str, Any]:
        answer = getattr(api.client, f"get_{self._words}")(**{self.get_member: arn})
        return dict(answer[self.name[0].lower() + self.name[1:]])

    def list(self, api: Api, **members: Any) -> Any:
        answer = getattr(api.client, f"list_{self._words}s")(**members)
        [entries] = [value for value in answer.values() if isinstance(value, list)]
        return entries

    def delete(self, api: Api, arn: str) -> None:
        getattr(api.client, f"delete_{self._words}")(**{self.get_member: arn})

    def text(self, arn: str, *principals: str, **more: Any) -> str:
        actions = [f"imagebuilder:Get{self.name}", f"imagebuilder:List{self.name}s"]
        grant = {
            "Effect": "Allow", "Principal": {"AWS": list(principals)}, "Action": actions, "Resource": [arn], **more,
        }  # fmt: skip
        return json.dumps({"Version": "2012-10-17", "Statement": [grant]})


def built_image(api: Api) -> str:
    arn = create(api, api.recipe(name="parent"))
    api.set_state(arn, "AVAILABLE", digest="sha256:" + "1" * 64)
    return arn


COMPONENT = Kind("Component", "componentArn", "componentBuildVersionArn", lambda api: api.component())
IMAGE = Kind("Image", "imageArn", "imageBuildVersionArn", built_image)
IMAGE_RECIPE = Kind("ImageRecipe", "imageRecipeArn", "imageRecipeArn", lambda api: api.image_recipe())
CONTAINER_RECIPE = Kind("ContainerRecipe", "containerRecipeArn", "containerRecipeArn", lambda api: api.recipe())
KINDS = [COMPONENT, IMAGE, IMAGE_RECIPE, CONTAINER_RECIPE]
NO_STATEMENTS = '{"Version": "2012-10-17", "Statement": []}'

each_kind = pytest.mark.parametrize("kind", KINDS, ids=repr)


@each_kind
def test_a_policy_reads_back_as_it_was_put(owner: Api, kind: Kind) -> None:
    """`{}` before the first one; a put replaces the whole policy, and the text stays byte for byte."""
    arn = kind.make(owner)
    assert kind.policy(owner, arn) == "{}"
    first = kind.text(arn, OTHER).replace(", ", " ,\n")
    answer = kind.put(owner, arn, first)
    assert answer[kind.member] == arn
    assert answer["requestId"] == answer["ResponseMetadata"]["RequestId"]
    assert kind.policy(owner, arn) == first
    assert kind.put(owner, arn, first)[kind.member] == arn
    kind.put(owner, arn, NO_STATEMENTS)
    assert kind.policy(owner, arn) == NO_STATEMENTS


@each_kind
def test_a_policy_lets_the_other_account_read_and_nothing_else(owner: Api, other: Api, kind: Kind) -> None:
    """Get works for the named account alone, shows the owner, and ends with the last statement."""
    arn = kind.make(owner)
    with refused("AccessDeniedException") as refusal:
        kind.get(other, arn)
    denied = (
        f"User: arn:aws:iam::{OTHER}:root is not authorized to perform: imagebuilder:Get{kind.name} "
        f"on resource: {arn}"
    )
    assert (refusal.status, refusal.message) == (403, denied)
    kind.put(owner, arn, kind.text(arn, OTHER))
    assert kind.get(other, arn) == kind.get(owner, arn)
    if kind is not IMAGE:
        assert kind.get(other, arn)["owner"] == ACCOUNT
    with refused("AccessDeniedException"):
        kind.get(as_key(owner, key(STRANGER)), arn)
    for change in (
        lambda: kind.delete(other, arn),
        lambda: kind.policy(other, arn),
        lambda: kind.put(other, arn, NO_STATEMENTS),
    ):
        with refused("AccessDeniedException"):
            change()
    with refused("ResourceNotFoundException"):
        other.client.tag_resource(resourceArn=arn, tags={"a": "b"})
    kind.put(owner, arn, NO_STATEMENTS)
    with refused("AccessDeniedException"):
        kind.get(other, arn)


@each_kind
def test_a_policy_alone_shows_nothing_in_lists(owner: Api, other: Api, kind: Kind) -> None:
    """RAM's rule: without a promoted resource share the other account does not see the resource in a list."""
    arn = kind.make(owner)
    kind.put(owner, arn, kind.text(arn, OTHER))
    assert kind.list(other) == []
    assert kind.list(other, owner="Shared") == []


@each_kind
def test_a_promoted_share_shows_in_lists_of_the_named_account(owner: Api, other: Api, kind: Kind) -> None:
    """Under owner `Shared` alone, with filters and pages, until a policy without statements ends it."""
    arn = kind.make(owner)
    kind.put(owner, arn, kind.text(arn, OTHER))
    promote(owner, arn)
    [shown] = kind.list(other, owner="Shared")
    assert shown["arn"] == (arn if kind in (IMAGE_RECIPE, CONTAINER_RECIPE) else arn[:-2])
    assert shown["owner"] == ACCOUNT
    assert kind.list(other) == [] and kind.list(owner, owner="Shared") == []
    assert kind.list(as_key(owner, key(STRANGER)), owner="Shared") == []
    name = shown["name"]
    for wanted, count in ((name, 1), (f"{name[:2]}*", 1), ("another", 0)):
        assert len(kind.list(other, owner="Shared", filters=[{"name": "name", "values": [wanted]}])) == count
    kind.put(owner, arn, kind.text(arn, OTHER, Action=[f"imagebuilder:Get{kind.name}"]))
    assert kind.list(other, owner="Shared") == []
    kind.put(owner, arn, kind.text(arn, OTHER))
    assert len(kind.list(other, owner="Shared")) == 1
    kind.put(owner, arn, NO_STATEMENTS)
    kind.put(owner, arn, kind.text(arn, OTHER))
    assert kind.list(other, owner="Shared") == []


def test_promoted_shares_are_listed_by_version_by_name_and_in_pages(owner: Api, other: Api) -> None:
    """One entry per version or name with the highest build; all pages together hold each once."""
    for version in ("1.0.0", "1.1.0", "2.0.0"):
        for text in (DOCUMENT, DOCUMENT.replace("echo hello", "echo two")):
            arn = owner.component(version=version, data=text, description=f"d{len(text)}")
            COMPONENT.put(owner, arn, COMPONENT.text(arn, OTHER))
            promote(owner, arn)
    pages = other.client.get_paginator("list_components").paginate(owner="Shared", PaginationConfig={"PageSize": 2})
    found = [item for page in pages for item in page["componentVersionList"]]
    assert sorted(item["version"] for item in found) == ["1.0.0", "1.1.0", "2.0.0"]
    [named] = COMPONENT.list(other, owner="Shared", byName=True)
    assert named["arn"] == owner.arn("component", "hello/x.x.x") and named["version"] == "2.0.0"
    assert COMPONENT.list(other, owner="Shared", filters=[{"name": "version", "values": ["1.x.x"]}]) != found


@each_kind
def test_a_stranger_cannot_tell_an_absent_resource_from_a_private_one(owner: Api, other: Api, kind: Kind) -> None:
    """Both are denied with the same sentence."""
    arn = kind.make(owner)
    messages = []
    for asked in (arn, arn.replace("1.0.0", "9.0.0")):
        with refused("AccessDeniedException") as refusal:
            kind.get(other, asked)
        messages.append(refusal.message.replace(asked, "ARN"))
    assert messages[0] == messages[1]


@each_kind
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text[:-1], "not JSON"),
        (lambda _: "[]", "JSON object"),
        (lambda text: text.replace(f'"{OTHER}"', '"*"'), "everybody"),
        (lambda text: text.replace("Allow", "Deny"), "Effect"),
        (lambda text: text.replace(":Get", ":Delete"), "Action"),
        (lambda text: text.replace("1.0.0", "1.0.1"), "Resource"),
        (lambda text: text + " " * (30001 - len(text)), "30000"),
    ],
)
def test_an_invalid_policy_is_refused(owner: Api, kind: Kind, change: Callable[[str], str], told: str) -> None:
    """InvalidParameterValueException on `policy` with the element; the earlier policy stays."""
    arn = kind.make(owner)
    kind.put(owner, arn, kind.text(arn, OTHER))
    with refused("InvalidParameterValueException") as refusal:
        kind.put(owner, arn, change(kind.text(arn, OTHER)))
    assert refusal.message.startswith("The value supplied for parameter 'policy' is not valid. ")
    assert told in refusal.message
    assert kind.policy(owner, arn) == kind.text(arn, OTHER)


@each_kind
def test_an_unknown_resource_has_no_policy(owner: Api, kind: Kind) -> None:
    """ResourceNotFoundException of put and get, for a missing own resource and for a managed one."""
    arn = kind.make(owner)
    for asked in (arn.replace("1.0.0", "9.0.0"), arn.replace(ACCOUNT, "aws")):
        with refused("ResourceNotFoundException") as refusal:
            kind.put(owner, asked, kind.text(asked, OTHER))
        assert refusal.message == f"The following required resource '{kind.name}' cannot be found: '{asked}'."
        with refused("ResourceNotFoundException"):
            kind.policy(owner, asked)


@each_kind
def test_a_policy_needs_one_exact_version(owner: Api, kind: Kind) -> None:
    """A wildcard is refused in put and get."""
    arn = kind.make(owner).replace("1.0.0", "1.x.x")
    with refused("InvalidParameterValueException"):
        kind.put(owner, arn, kind.text(arn, OTHER))
    with refused("InvalidParameterValueException"):
        kind.policy(owner, arn)


@each_kind
def test_a_deleted_resource_leaves_no_policy(owner: Api, other: Api, kind: Kind) -> None:
    """What is shared cannot be deleted, except an image recipe; the same ARN later starts without a policy."""
    arn = kind.make(owner)
    kind.put(owner, arn, kind.text(arn, OTHER))
    if kind is not IMAGE_RECIPE:
        with refused("ResourceDependencyException") as refusal:
            kind.delete(owner, arn)
        assert refusal.message == (
            f"Resource dependency error: The resource ARN '{arn}' has other resources depended on it."
        )
        kind.put(owner, arn, NO_STATEMENTS)
    kind.delete(owner, arn)
    with refused("AccessDeniedException"):
        kind.get(other, arn)
    if kind in (IMAGE_RECIPE, CONTAINER_RECIPE):
        assert kind.make(owner) == arn
        assert kind.policy(owner, arn) == "{}"


def test_conditions_and_principals_are_obeyed_at_the_request(owner: Api, other: Api) -> None:
    """A user of the account, a tag of the resource, a time: each request is judged by what holds then."""
    arn = owner.component(tags={"Team": "web"})
    ci = as_key(owner, {**key(OTHER, user="ci"), "accessKeyId": "AKIACI00000000000000"})
    COMPONENT.put(owner, arn, COMPONENT.text(arn, f"arn:aws:iam::{OTHER}:user/ci"))
    assert COMPONENT.get(ci, arn)["arn"] == arn
    with refused("AccessDeniedException"):
        COMPONENT.get(other, arn)
    tagged = {"Condition": {"StringEquals": {"aws:ResourceTag/team": "web"}}}
    COMPONENT.put(owner, arn, COMPONENT.text(arn, OTHER, **tagged))
    assert COMPONENT.get(other, arn)["arn"] == arn
    owner.client.tag_resource(resourceArn=arn, tags={"Team": "db"})
    with refused("AccessDeniedException"):
        COMPONENT.get(other, arn)
    until = {"Condition": {"DateLessThan": {"aws:CurrentTime": owner.clock().isoformat()}}}
    COMPONENT.put(owner, arn, COMPONENT.text(arn, OTHER, **until))
    with refused("AccessDeniedException"):
        COMPONENT.get(other, arn)


def test_a_wildcard_resolves_to_what_is_shared(owner: Api, other: Api) -> None:
    """The highest version that the policy grants, not the highest one."""
    shared = owner.component(version="1.0.0")
    owner.component(version="1.1.0")
    COMPONENT.put(owner, shared, COMPONENT.text(shared, OTHER))
    for asked in ("hello/x.x.x", "hello/1.x.x", "hello/1.0.0", "hello/1.0.0/1"):
        assert COMPONENT.get(other, other.arn("component", asked))["arn"] == shared
    with refused("AccessDeniedException"):
        COMPONENT.get(other, other.arn("component", "hello/1.1.0"))


def test_shared_resources_are_used_in_recipes_and_builds(owner: Api, other: Api) -> None:
    """A component, a parent image and a recipe of another account, as far as their policies go."""
    component, image = owner.component(), built_image(owner)
    members: dict[str, Any] = {"parentImage": image, "components": [{"componentArn": component}]}
    for kind, arn in ((IMAGE, image), (COMPONENT, component)):
        with refused("AccessDeniedException") as refusal:
            other.recipe(**members)
        assert refusal.message.endswith(f"imagebuilder:Get{kind.name} on resource: {arn}")
        kind.put(owner, arn, kind.text(arn, OTHER))
    recipe = other.recipe(**members)
    assert f":{OTHER}:" in recipe
    run = {"containerRecipeArn": recipe, "infrastructureConfigurationArn": other.infrastructure()}
    built = other.client.create_image(**run)["imageBuildVersionArn"]
    shown = other.client.get_image(imageBuildVersionArn=built)["image"]
    assert shown["containerRecipe"]["parentImage"] == image
    assert shown["containerRecipe"]["components"] == [{"componentArn": component}]
    assert other.builds.started[-1] == built
    COMPONENT.put(owner, component, NO_STATEMENTS)
    with refused("AccessDeniedException"):
        other.client.create_image(**run)
    owner.client.delete_component(componentBuildVersionArn=component)


def test_a_shared_recipe_is_built_in_the_account_that_asks(owner: Api, other: Api) -> None:
    """The image belongs to the caller; the recipe's owner may end the sharing and delete it."""
    recipe = owner.recipe()
    infrastructure = other.infrastructure()
    members = {"containerRecipeArn": recipe, "infrastructureConfigurationArn": infrastructure}
    with refused("AccessDeniedException"):
        other.client.create_image_pipeline(name="theirs", **members)
    CONTAINER_RECIPE.put(owner, recipe, CONTAINER_RECIPE.text(recipe, OTHER))
    pipeline = other.client.create_image_pipeline(name="theirs", **members)["imagePipelineArn"]
    started = other.client.start_image_pipeline_execution(imagePipelineArn=pipeline)
    image = started["imageBuildVersionArn"]
    assert f":{OTHER}:image/web/1.0.0/1" in image
    assert other.client.get_image(imageBuildVersionArn=image)["image"]["containerRecipe"]["owner"] == ACCOUNT
    CONTAINER_RECIPE.put(owner, recipe, NO_STATEMENTS)
    owner.client.delete_container_recipe(containerRecipeArn=recipe)
    with refused("AccessDeniedException"):
        other.client.start_image_pipeline_execution(imagePipelineArn=pipeline)


def test_a_component_that_runs_a_private_one_is_refused(owner: Api, other: Api) -> None:
    """Sharing a component does not share the components that its steps run."""
    inner = owner.component(name="inner")
    outer_document = DOCUMENT.replace("action: ExecuteBash", "action: ExecuteDocument").replace(
        "commands:\n            - echo hello", f"document: {inner}"
    )
    outer = owner.component(name="outer", data=outer_document)
    COMPONENT.put(owner, outer, COMPONENT.text(outer, OTHER))
    with refused("AccessDeniedException") as refusal:
        other.recipe(components=[{"componentArn": outer}])
    assert refusal.message.endswith(inner)
    COMPONENT.put(owner, inner, COMPONENT.text(inner, OTHER))
    assert other.recipe(components=[{"componentArn": outer}])
