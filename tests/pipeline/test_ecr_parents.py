"""Addresses of ECR in recipes mean the registry of their account and Region, or an image that is kept here."""

from __future__ import annotations

import pytest

from testing.pipeline_support import ACCOUNT, REGION, Forge, image_digest, uris
from testing.registry_support import RunningRegistry

pytestmark = pytest.mark.tool

HOST = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
TEMPLATE = """\
FROM {0}/{1}:1.0.0-1 AS own
FROM {{{{{{ imagebuilder:parentImage }}}}}}
COPY --from=own /one /by-from
COPY --from={0}/{1}:1.0.0-1 /one /by-tag
COPY --from={0}/{1}@{2} /one /by-digest
{{{{{{ imagebuilder:environments }}}}}}
{{{{{{ imagebuilder:components }}}}}}
"""


def test_an_address_of_ecr_is_pulled_from_the_configured_registry(
    forge: Forge, open_registry: RunningRegistry
) -> None:
    """As the parent, in FROM and in COPY --from, by tag and by digest."""
    recipe = forge.recipe(forge.component(build="echo one > /one"))
    image = forge.build(recipe)
    name, digest = recipe.split("/")[1], image_digest(f"docker://{uris(image)[0]}")
    look = forge.component(build="grep one /by-tag /by-digest /by-from")
    for parent in (f"{HOST}/{name}:1.0.0-1", f"{HOST}/{name}@{digest}"):
        built = forge.build(
            forge.recipe(look, parentImage=parent, dockerfileTemplateData=TEMPLATE.format(HOST, name, digest))
        )
        assert f"is {open_registry.host}/{name}" in forge.server.log(built["arn"])


@pytest.mark.parametrize("place", ["parent", "copy", "from", "mount"])
def test_an_address_of_ecr_without_a_registry_is_named(forge: Forge, place: str) -> None:
    """The setting that is missing is in the reason; nothing was asked outside."""
    address = f"{ACCOUNT}.dkr.ecr.eu-north-1.amazonaws.com/web:1"
    own = "FROM {{{ imagebuilder:parentImage }}}\n"
    end = "{{{ imagebuilder:environments }}}\n{{{ imagebuilder:components }}}\n"
    members = {
        "parent": {"parentImage": address},
        "copy": {"dockerfileTemplateData": f"{own}COPY --from={address} /x /y\n{end}"},
        "from": {"dockerfileTemplateData": f"FROM {address} AS tools\n{own}COPY --from=tools /x /y\n{end}"},
        "mount": {"dockerfileTemplateData": f"{own}RUN --mount=type=bind,from={address},target=/x true\n{end}"},
    }[place]
    image = forge.build(forge.recipe(forge.component(build="true"), **members), "FAILED")
    assert f'[registries."{ACCOUNT}/eu-north-1"]' in image["state"]["reason"]
    assert address in image["state"]["reason"]
