"""A container image from recipe to registry, through the API of a real server."""

from __future__ import annotations

import json
import threading

import pytest

from imagesmith.artifacts.layout import OciLayout
from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.values.states import FINAL_IMAGE
from testing.pipeline_support import (
    HOLD,
    PARENT_ENV,
    REGION,
    TEMPLATE,
    Forge,
    RunningServer,
    image_config,
    image_digest,
    read_tool,
    release,
    uris,
)  # fmt: skip
from testing.registry_support import RunningRegistry

pytestmark = pytest.mark.tool


def test_states_come_in_order_and_the_image_is_in_the_registry(
    forge: Forge, server: RunningServer, open_registry: RunningRegistry
) -> None:
    """PENDING to AVAILABLE one by one; the registry has the built digest under the default and the extra tags."""
    component = forge.component(
        build=f"echo built > /built\n{HOLD.format(name='order')}",
        validate="grep built /built",
        test="grep built /built",
    )
    distribution = forge.distribution((REGION, "full/web", ["latest", "stable"]))
    pipeline = forge.pipeline(forge.recipe(component), distributionConfigurationArn=distribution)
    arn = forge.run(pipeline)
    seen = [forge.state(arn)]
    helper = threading.Thread(target=release, args=("order",))
    helper.start()
    while seen[-1] not in FINAL_IMAGE:
        state = forge.state(arn)
        if state != seen[-1]:
            seen.append(state)
    helper.join()
    order = ["PENDING", "CREATING", "BUILDING", "TESTING", "DISTRIBUTING", "AVAILABLE"]
    assert seen == [state for state in order if state in seen], server.log(arn)
    assert {"BUILDING", "TESTING", "AVAILABLE"} <= set(seen)

    image = forge.image(arn)
    where = [f"{open_registry.host}/full/web:{tag}" for tag in ("1.0.0-1", "latest", "stable")]
    assert image["outputResources"]["containers"] == [{"region": REGION, "imageUris": where}]
    digest = server.command("image", "show", arn, "--json").split('"digest": "')[1].split('"')[0]
    assert {image_digest(f"docker://{uri}") for uri in where} == {digest}
    shown = forge.client.get_image_pipeline(imagePipelineArn=pipeline)["imagePipeline"]
    assert shown["lastRunStatus"] == "AVAILABLE"


def test_the_second_build_gets_the_next_number(forge: Forge, open_registry: RunningRegistry) -> None:
    """A pipeline that runs twice makes build 2 of the same version, under a tag of its own."""
    recipe = forge.recipe(forge.component(build="echo one"))
    pipeline = forge.pipeline(recipe)
    images = [forge.finished(forge.run(pipeline)) for _ in range(2)]
    repository = recipe.split("/")[1]
    assert [uris(image) for image in images] == [
        [f"{open_registry.host}/{repository}:1.0.0-{number}"] for number in (1, 2)
    ]


def test_everything_of_a_template_survives(forge: Forge) -> None:
    """Instructions before and after the components run in order; what they configure is in the result."""
    component = forge.component(build='cat /before > /during; echo "$TINY $BEFORE $(id -u)" >> /during')
    image = forge.build(
        forge.recipe(
            component,
            dockerfileTemplateData="""\
ARG TOOL=unused
FROM {{{ imagebuilder:parentImage }}} AS helper
RUN echo from-helper > /helper
FROM {{{ imagebuilder:parentImage }}}
ENV BEFORE=yes
LABEL before="1"
RUN echo before > /before
{{{ imagebuilder:environments }}}
{{{ imagebuilder:components }}}
COPY --from=helper /helper /helper
ENV AFTER=also
RUN test "$(cat /during | tr '\\n' ' ')" = "before yes yes 0 " && echo after > /after
LABEL after="2"
USER nobody
WORKDIR /var
ENTRYPOINT ["/bin/sh", "-c"]
CMD ["cat /during"]
EXPOSE 80
""",
        )
    )
    config = image_config(f"docker://{uris(image)[0]}")["config"]
    assert set(config["Env"]) == {*PARENT_ENV, "BEFORE=yes", "AFTER=also"}
    assert config["Labels"] == {"before": "1", "after": "2"}
    assert (config["User"], config["WorkingDir"]) == ("nobody", "/var")
    assert (config["Entrypoint"], config["Cmd"]) == (["/bin/sh", "-c"], ["cat /during"])
    assert list(config["ExposedPorts"]) == ["80/tcp"]


def test_the_base_of_an_image_is_its_parent(forge: Forge, open_registry: RunningRegistry) -> None:
    """Name and digest in the annotations of OCI, whatever images the build made on the way."""
    first = uris(forge.build(forge.recipe(forge.component(build="true"))))[0]
    template = TEMPLATE.replace(
        "{{{ imagebuilder:components }}}", "RUN echo 1 > /one\n{{{ imagebuilder:components }}}\nENV A=1"
    )
    image = forge.build(
        forge.recipe(forge.component(build="true"), parentImage=first, dockerfileTemplateData=template)
    )
    manifest = json.loads(
        read_tool("skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{uris(image)[0]}")
    )
    assert manifest["annotations"] == {
        "org.opencontainers.image.base.name": first,
        "org.opencontainers.image.base.digest": image_digest(f"docker://{first}"),
        "org.opencontainers.image.created": image_config(f"docker://{uris(image)[0]}")["created"],
    }


def test_a_template_without_components_is_built_as_it_is(forge: Forge, server: RunningServer) -> None:
    """Components of a template without the components variable only test; the log says so."""
    component = forge.component(build="echo no > /no", test="test ! -e /no && test -e /yes")
    template = "FROM {{{ imagebuilder:parentImage }}}\n{{{ imagebuilder:environments }}}\nRUN echo yes > /yes\n"
    image = forge.build(forge.recipe(component, dockerfileTemplateData=template))
    assert "build and validate phases do not run" in server.log(image["arn"])


def test_tests_run_on_a_fresh_container(forge: Forge) -> None:
    """What the build left running is not there, what it wrote is; tests change nothing in the image."""
    component = forge.component(
        build="echo kept > /kept; mkdir -p /tmp/work; echo x > /tmp/work/file; sleep 300 >/dev/null 2>&1 &",
        test="test -e /kept || exit 3\n"
        "for p in /proc/[0-9]*; do if grep -q sleep $p/cmdline; then exit 4; fi; done\n"
        "echo written by the test > /of-the-test",
    )
    image = forge.build(forge.recipe(component))
    digest = image_digest(f"docker://{uris(image)[0]}")
    again = forge.build(
        forge.recipe(forge.component(test="test -e /kept && test ! -e /of-the-test"), parentImage=image["arn"])
    )
    assert digest != image_digest(f"docker://{uris(again)[0]}")


def test_a_failing_test_pushes_nothing(forge: Forge, open_registry: RunningRegistry) -> None:
    """The image is FAILED in TESTING with the component's failure, and the registry never hears of it."""
    recipe = forge.recipe(forge.component(build="true", test="echo expected blue >&2; exit 9"))
    image = forge.build(recipe, "FAILED")
    context = image["state"]["failureContext"]
    assert context["imageStatus"] == "TESTING"
    assert context["componentFailure"]["phaseName"] == "test"
    assert "expected blue" in image["state"]["reason"]
    assert image["outputResources"] == {"containers": []}
    assert recipe.split("/")[1] not in open_registry.get("/v2/_catalog").decode()


def test_disabled_tests_do_not_run(forge: Forge, server: RunningServer) -> None:
    """With imageTestsEnabled false a failing test phase is not reached."""
    recipe = forge.recipe(forge.component(build="true", test="exit 9"))
    image = forge.build(recipe, imageTestsConfiguration={"imageTestsEnabled": False})
    assert "test/Test" not in server.log(image["arn"])


def test_a_failing_step_is_named_with_its_last_words(forge: Forge, server: RunningServer) -> None:
    """The reason has component, phase, step, line and the last output; the failureContext has them as members."""
    component = forge.component(
        data="""\
name: broken
schemaVersion: 1.0
phases:
  - name: build
    steps:
      - name: Fine
        action: ExecuteBash
        inputs:
          commands: [echo all is well]
      - name: Breaks
        action: ExecuteBash
        inputs:
          commands:
            - |
              echo reading the wish list
              echo the pony is missing >&2
              exit 42
"""
    )
    image = forge.build(forge.recipe(component), "FAILED")
    state = image["state"]
    for words in (
        "Phase build, step Breaks",
        "ExecuteBash",
        "line 10",
        "42",
        "reading the wish list",
        "the pony is missing",
    ):
        assert words in state["reason"], state["reason"]
    context = state["failureContext"]
    assert context["imageStatus"] == "BUILDING"
    assert context["workflowExecutionId"] in state["reason"]
    failure = context["componentFailure"]
    assert failure["componentArn"] == component
    assert (failure["phaseName"], failure["stepName"], failure["action"]) == ("build", "Breaks", "ExecuteBash")
    assert "42" in failure["errorMessage"]
    assert "all is well" in server.log(image["arn"])


def test_a_failing_instruction_is_named_with_its_last_words(forge: Forge) -> None:
    """A Dockerfile instruction that fails is quoted in the reason."""
    template = TEMPLATE.replace("{{{ imagebuilder:components }}}", "RUN echo no such thing >&2; exit 5")
    state = forge.build(forge.recipe(forge.component(build="true"), dockerfileTemplateData=template), "FAILED")[
        "state"
    ]
    assert "RUN echo no such thing" in state["reason"] and "Last output" in state["reason"]
    assert state["failureContext"]["imageStatus"] == "BUILDING"


def test_metadata_can_be_left_out(forge: Forge) -> None:
    """With enhancedImageMetadataEnabled false no package list is kept."""
    image = forge.build(forge.recipe(forge.component(build="true")), enhancedImageMetadataEnabled=False)
    assert forge.client.list_image_packages(imageBuildVersionArn=image["arn"])["imagePackageList"] == []


def test_the_default_tag_is_readable_by_other_tools(forge: Forge) -> None:
    """skopeo lists the pushed repository without knowing anything of this server."""
    image = forge.build(forge.recipe(forge.component(build="echo x > /x")))
    repository = uris(image)[0].rpartition(":")[0]
    assert "1.0.0-1" in read_tool("skopeo", "list-tags", "--tls-verify=false", f"docker://{repository}")


def test_a_parent_with_a_damaged_layer_is_repaired_or_named(forge: Forge, server: RunningServer) -> None:
    """A build on it is whole, as the storage has the layer; where it has not, the build fails with the blob."""
    parent = forge.build(forge.recipe(forge.component(build="echo one > /one")))
    digest = image_digest(f"docker://{uris(parent)[0]}")
    layout = OciLayout(server.data_dir / "oci")
    layer = layout.files.path_of(layout.read(digest).layers[-1])
    layer.write_bytes(layer.read_bytes()[:-20])
    look = forge.component(build="test $(cat /one) = one")
    child = forge.build(forge.recipe(look, parentImage=parent["arn"]))
    child_digest = image_digest(f"docker://{uris(child)[0]}")
    layout.make_whole(child_digest)
    layout.make_whole(digest)
    storage = ContainerStorage.for_data_dir(server.data_dir)
    layer.unlink()
    storage.remove_image(layout.read(digest).image_id)
    failed = forge.build(forge.recipe(look, parentImage=parent["arn"]), "FAILED")
    assert f"blob sha256:{layer.name} is missing" in failed["state"]["reason"]
