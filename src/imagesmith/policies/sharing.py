"""What a resource policy of this service may share (spec/api.md 4.11): one resource, for reading by named callers.

The other account uses what it may Get: in Get operations, as a component or parent image of a recipe, as the recipe
of a pipeline or image. RAM's rule holds as well: a resource that is shared by its policy alone is in no list until
the share is promoted.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from imagesmith.policies.document import PolicyRefused, ResourcePolicy, parse_policy

_NAMES: Final = MappingProxyType(
    {
        "component": ("Component", "Components"),
        "image": ("Image", "Images"),
        "image-recipe": ("ImageRecipe", "ImageRecipes"),
        "container-recipe": ("ContainerRecipe", "ContainerRecipes"),
    }
)
"""ARN types that have policies -> the names in their Get and List operations."""

SHAREABLE: Final = frozenset(_NAMES)


def read_action(kind: str) -> str:
    """The action that a caller of another account needs for a resource of a shareable type."""
    return f"imagebuilder:Get{_NAMES[kind][0]}"


def list_action(kind: str) -> str:
    """The action that shows a promoted resource in lists of another account."""
    return f"imagebuilder:List{_NAMES[kind][1]}"


def shared_actions(kind: str) -> tuple[str, ...]:
    """The actions that a policy of a resource may grant."""
    return (read_action(kind), list_action(kind))


def sharing_policy(text: str, *, kind: str, resource: str) -> ResourcePolicy:
    """A policy that the resource may have. Raises PolicyRefused."""
    policy = parse_policy(text)
    allowed = shared_actions(kind)
    folded = {action.lower() for action in allowed}
    for index, grant in enumerate(policy.grants):
        where = f"Statement[{index}]"
        for action in grant.actions:
            if action.lower() not in folded:
                raise PolicyRefused(f"{where}.Action has {action!r}; a policy shares {' and '.join(allowed)}")
        for named in grant.resources:
            if named != resource:
                raise PolicyRefused(f"{where}.Resource has {named!r}; it must be {resource}")
        if grant.is_public:
            raise PolicyRefused(f"{where}.Principal grants to everybody; name the accounts, users or roles")
    return policy
