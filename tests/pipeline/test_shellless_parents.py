"""Parents of one static program: they build as long as nothing has to run in them."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from testing.pipeline_support import TEMPLATE, Forge, image_config, uris, write_image

pytestmark = pytest.mark.tool

NO_COMPONENTS = (
    'FROM {{{ imagebuilder:parentImage }}}\n{{{ imagebuilder:environments }}}\nRUN ["/hello"]\nENV A=b\n'
)


@pytest.fixture(scope="module")
def static_parent(tmp_path_factory: pytest.TempPathFactory, tiny_parent: str) -> str:
    """A layout with an image of one static program, where local parents may be."""
    program = tmp_path_factory.mktemp("static") / "hello"
    subprocess.run(["gcc", "-static", "-o", str(program), "-xc", "-"], input=b"int main(){return 0;}\n", check=True)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(program, arcname="hello")
    folder = Path(tiny_parent.split(":")[1]).parent / "static"
    write_image(folder, "hello:1", archive.getvalue(), {"Entrypoint": ["/hello"]})
    return f"oci:{folder}:hello:1"


@pytest.mark.parametrize("kind", ["without-components", "with-components"])
def test_an_image_without_a_shell_builds(forge: Forge, static_parent: str, kind: str) -> None:
    """Where no component runs, its layer stays the only one, and the image is a parent as well."""
    template = NO_COMPONENTS if kind == "without-components" else f"{TEMPLATE}ENV A=b\n"
    component = forge.component(build="true") if kind == "without-components" else forge.component(test="true")
    recipe = forge.recipe(component, parentImage=static_parent, dockerfileTemplateData=template)
    image = forge.build(recipe, imageTestsConfiguration={"imageTestsEnabled": False})
    config = image_config(f"docker://{uris(image)[0]}")
    assert len(config["rootfs"]["diff_ids"]) == 1 and "A=b" in config["config"]["Env"]
    if kind == "without-components":
        again = forge.component(build="true")
        forge.build(forge.recipe(again, parentImage=image["arn"], dockerfileTemplateData=template))


def test_a_component_that_needs_a_shell_says_so(forge: Forge, static_parent: str) -> None:
    """The failure names what the image lacks."""
    image = forge.build(forge.recipe(forge.component(build="true"), parentImage=static_parent), "FAILED")
    assert "no /bin/sh" in image["state"]["reason"]
