"""What a build takes from elsewhere while it runs: components by ARN, stored parameters, facts of its instance."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from testing.machine_images import start
from testing.pipeline_support import ACCOUNT, REGION, Forge, document
from testing.workflow_support import (
    ROLE,
    answer,
    build_document,
    executions,
    run_with,
    shell,
    steps,
    waiting,
    workflow,
)

pytestmark = pytest.mark.tool

HELLO = f"arn:aws:imagebuilder:{REGION}:aws:component/hello-world-linux/x.x.x"
SECRET = "sw0rdf1sh-of-the-store"


def running(*arns: str, head: str = "", more: str = "") -> str:
    """A document whose steps run components by their ARNs."""
    text = f"schemaVersion: 1.0\n{head}phases:\n  - name: build\n    steps:\n"
    for index, arn in enumerate(arns):
        text += f"      - name: Step{index}\n        action: ExecuteDocument\n        inputs:\n"
        text += f"          document: '{arn}'\n          phases: build\n{more}"
    return text


def version_of(arn: str) -> str:
    """An ARN of a build without its build number."""
    return arn.rpartition("/")[0]


def test_components_run_others_by_every_form_of_their_arns(forge: Forge) -> None:
    """Managed and own ones, by build, version, wildcards and references, over several levels, with parameters."""
    says = "parameters:\n  - Word: {type: string, default: none}\n"
    text = document("leaf", {"build": "echo leaf {{ Word }}"})
    leaf = forge.component(data=text.replace("phases", f"{says}phases"))
    middle = forge.component(
        data=running(leaf, more="          parameters:\n            - {name: Word, value: given}\n")
    )
    name = leaf.split("component/")[1].split("/")[0]
    late = forge.component(build="echo late leaf")
    anywhere = f"arn:aws:imagebuilder:{REGION}:{ACCOUNT}:component"
    top = forge.component(
        data=running(
            HELLO, leaf, version_of(leaf), f"{anywhere}/{name}/1.x.x", f"{anywhere}/{name}/x.x.x", middle,
            "arn:aws:imagebuilder:{{ context:region }}:{{ context:accountId }}:component/{{ Which }}/1.0.0",
            late.replace(":component/", "{{ env:NOWHERE }}:component/"),
            head=f"parameters:\n  - Which: {{type: string, default: {name}}}\n",
        )
    )  # fmt: skip
    image = forge.build(forge.recipe(top))
    log = forge.server.log(image["arn"])
    assert log.count("leaf none") == 5 and log.count("leaf given") == 1 and "Hello, world" in log
    assert f"was resolved in this run: {late}" in log and "late leaf" in log


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (f"arn:aws:imagebuilder:{REGION}:{ACCOUNT}:component/nowhere/1.0.0", "cannot be found"),
        (f"arn:aws:imagebuilder:{REGION}:aws:component/nowhere/x.x.x", "cannot be found"),
        (f"arn:aws:imagebuilder:eu-west-1:{ACCOUNT}:component/nowhere/1.0.0", "cannot be found"),
        (f"arn:aws:imagebuilder:{REGION}:111122223333:component/their/1.0.0", "not authorized"),
        (f"arn:aws:imagebuilder:{REGION}:aws:image/debian-x86-12/x.x.x", "not the ARN of a resource of type"),
        ("arn:nonsense", "cannot be used"),
    ],
)  # fmt: skip
def test_a_recipe_refuses_what_its_components_could_not_run(forge: Forge, asked: str, told: str) -> None:
    """The step and the ARN are named, at once and not hours later."""
    with pytest.raises(ClientError, match=told) as refused:
        forge.recipe(forge.component(data=running(asked)))
    assert "Step 'Step0' in phase 'build'" in str(refused.value) and asked in str(refused.value)


def test_depth_and_circles_are_refused_at_creation(forge: Forge) -> None:
    """Three levels below the component of the recipe, and no component above itself."""
    arn = forge.component(build="true")
    for _ in range(3):
        arn = forge.component(data=running(arn))
    forge.recipe(arn)
    with pytest.raises(ClientError, match="nested 3 levels deep"):
        forge.recipe(forge.component(data=running(arn)))
    name = forge.name("circle")
    itself = f"arn:aws:imagebuilder:{REGION}:{ACCOUNT}:component/{name}/1.0.0"
    made = forge.client.create_component(name=name, semanticVersion="1.0.0", platform="Linux", data=running(itself))
    with pytest.raises(ClientError, match="which runs itself"):
        forge.recipe(made["componentBuildVersionArn"])


def test_a_component_that_another_one_runs_stays(forge: Forge) -> None:
    """A recipe needs what its components name by number, as it needs the components themselves."""
    leaf = forge.component(build="true")
    recipe = forge.recipe(forge.component(data=running(leaf)))
    with pytest.raises(ClientError, match="depend"):
        forge.client.delete_component(componentBuildVersionArn=leaf)
    forge.client.delete_container_recipe(containerRecipeArn=recipe)
    forge.client.delete_component(componentBuildVersionArn=leaf)


def put(forge: Forge, name: str, value: str, *options: str) -> None:
    forge.server.command("parameter", "put", name, *options, input=value)


def test_stored_parameters_and_facts_reach_components_and_secrets_stay_hidden(forge: Forge) -> None:
    """Plain values show, secure ones are masked in the log, in the image's records and in errors."""
    put(forge, "/app/plain", "", "shown-value")
    put(forge, "/app/secret", SECRET, "--secure")
    script = (
        "echo 'plain={{ aws:ssm:/app/plain }} secret={{ aws:ssm:/app/secret }}'\n"
        "test '{{ aws:ssm:/app/secret }}' = " + "".join(f"'{char}'" for char in SECRET) + " && echo same\n"
        "echo 'id={{ aws:imds:instance-id }} region={{ aws:imds:placement/region }}'\n"
        "echo '{{ aws:ssm:/app/secret }}' >&2"
    )
    image = forge.build(forge.recipe(forge.component(build=script)))
    log = forge.server.log(image["arn"])
    assert "plain=shown-value secret=********" in log and "same" in log
    assert "id=i-" in log and f"region={REGION}" in log
    assert "members of the request without effect on this host: infrastructure.instanceProfileName" in log
    failed = forge.build(forge.recipe(forge.component(build="{{ aws:ssm:/app/secret }}; exit 3")), "FAILED")
    for arn in (image["arn"], failed["arn"]):
        said = forge.server.log(arn) + json.dumps(forge.image(arn), default=str)
        for execution in executions(forge, arn):
            said += json.dumps(steps(forge, execution["workflowExecutionId"]), default=str)
        assert SECRET not in said
    listed = forge.server.command("parameter", "list", "--json")
    assert SECRET not in listed and "SecureString" in listed


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("aws:ssm:/no/such", "has no stored parameter '/no/such'"),
        ("aws:ssm:/no/such:3", "versions and labels are not supported"),
        ("aws:imds:hostname", "a container has no 'hostname': it is not a machine"),
        ("aws:imds:spot/action", "there is no value for 'spot/action'"),
    ],
)
def test_a_value_that_is_not_there_fails_its_step_by_name(forge: Forge, reference: str, told: str) -> None:
    """The reference, the phase and the step are named."""
    image = forge.build(forge.recipe(forge.component(build=f"echo {{{{ {reference} }}}}")), "FAILED")
    reason = image["state"]["reason"]
    assert told in reason and f"{{{{ {reference} }}}}" in reason
    assert "Phase build, step Build" in reason
    assert image["state"]["failureContext"]["componentFailure"]["stepName"] == "Build"


def test_a_failed_workflow_step_is_named(forge: Forge) -> None:
    """In the reason of the image, next to the context."""
    built = workflow(forge, "BUILD", build_document(shell("Breaks", "exit 7")))
    image = forge.finished(run_with(forge, built), "FAILED")
    assert "Step 'Breaks' (RunCommand): " in image["state"]["reason"]
    assert image["state"]["failureContext"]["failedStep"] == "Breaks"


WAITS = """\
name: named
schemaVersion: 1.0
steps:
  - {name: Ask, action: WaitForAction}
outputs:
  - {name: ImageId, value: "%s"}
"""


@pytest.mark.parametrize(
    ("value", "reason", "failed"),
    [
        ("$.stepOutputs.Ask.reason", "not-an-ami", "Ask"),
        ("$.stepOutputs.Ask.reason", "ami-0123456789abcdef0 or so", "Ask"),
        ("$.stepOutputs.Ask.nothing", "x", "Ask"),
        ("image-1", "x", None),
    ],
)
def test_an_image_id_that_is_none_ends_the_build_in_the_words_of_the_service(
    forge: Forge, blank: str, value: str, reason: str, failed: Any
) -> None:
    """The step whose output it was is the failed one."""
    named = workflow(forge, "BUILD", WAITS % value)
    image = start(forge, blank, workflows=[{"workflowArn": named}], executionRole=ROLE)
    answer(forge, waiting(forge, image), reason=reason)
    state = forge.finished(image, "FAILED")["state"]
    assert "Invalid ImageId output value, must be AMI ID as a string." in state["reason"]
    assert state["failureContext"].get("failedStep") == failed
