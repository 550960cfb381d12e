"""The two kinds of image: their names in the service, where each is built and its outputs.

`builds/kinds.py` builds each.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

KindName = Literal["container", "machine"]


@dataclass(frozen=True, kw_only=True)
class ImageKind:
    """One kind of image."""

    name: KindName
    recipe: str
    """The kind of its recipes, in their ARNs."""
    recipe_member: str
    """The member of an image that holds its recipe."""
    image_type: str
    """`type` of an image and of its parent, `$.imagebuilder.imageType` of a workflow."""
    outputs_member: str
    """The member of outputResources with its outputs."""
    capability: str
    """The capability that a worker needs to build it: the name of a queue."""
    is_disk: bool
    """It has block devices, becomes AMIs, and can be written as a disk image."""
    output: str
    """Its output, for sentences."""


CONTAINER: Final = ImageKind(
    name="container", recipe="container-recipe", recipe_member="containerRecipe", image_type="DOCKER",
    outputs_member="containers", capability="container.x86_64", is_disk=False, output="image",
)  # fmt: skip
MACHINE: Final = ImageKind(
    name="machine", recipe="image-recipe", recipe_member="imageRecipe", image_type="AMI",
    outputs_member="amis", capability="machine.x86_64", is_disk=True, output="AMI",
)  # fmt: skip

IMAGE_KINDS: Final = MappingProxyType[str, ImageKind]({kind.name: kind for kind in (CONTAINER, MACHINE)})
_OF_RECIPES: Final = MappingProxyType[str, ImageKind]({kind.recipe: kind for kind in (CONTAINER, MACHINE)})


def kind_of_recipe(recipe: str) -> ImageKind:
    """The kind of image of a kind of recipe."""
    return _OF_RECIPES[recipe]
