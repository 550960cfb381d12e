"""The logs of real builds: followed by the command and over HTTP, kept in buckets and log groups."""

from __future__ import annotations

import http.client
import json
import subprocess
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from imagesmith.cli.context import ServerAddress
from testing.commands import COMMAND
from testing.keys import operator_key
from testing.leaks import assert_clean
from testing.object_store import object_store, store_settings
from testing.pipeline_support import (  # fmt: skip
    ACCOUNT,
    HOLD,
    REGION,
    Forge,
    RunningServer,
    held,
    image_config,
    release,
    uris,
)
from testing.workflow_support import ROLE, build_document, executions, run_with, shell, steps, workflow

pytestmark = pytest.mark.tool

ROLES = f'[roles.{ROLE}]\nregistries = ["*"]\nbuckets = ["logs", "nowhere"]\nlog_groups = ["/mine/*"]\n'


@pytest.fixture(scope="module")
def bucket() -> Iterator[tuple[str, Any]]:
    """The endpoint of an S3 server with the bucket `logs`, and a client of it."""
    with object_store("logs", "secret") as client:
        yield client.meta.endpoint_url, client


@pytest.fixture(scope="module")
def logging_server(
    tmp_path_factory: pytest.TempPathFactory, tiny_parent: str, bucket: tuple[str, Any]
) -> Iterator[RunningServer]:
    """A server that knows the bucket, and a role that may use it."""
    folder = tmp_path_factory.mktemp("logging")
    settings = f'{store_settings(bucket[0], folder)}log_groups = "s3://logs/groups"\n{ROLES}'
    with RunningServer(folder / "data", parent=tiny_parent, settings=settings) as running:
        yield running.start()
        running.stop()
        assert_clean(running)


def keys(client: Any, prefix: str = "") -> list[str]:
    return [item["Key"] for item in client.list_objects_v2(Bucket="logs", Prefix=prefix).get("Contents", ())]


def body(client: Any, key: str) -> str:
    return str(client.get_object(Bucket="logs", Key=key)["Body"].read().decode())


def test_steps_are_put_where_the_infrastructure_says(
    logging_server: RunningServer, bucket: tuple[str, Any]
) -> None:
    """Under prefix, image, version, build, run and step; each object is the log of that step."""
    forge, client = logging_server.forge, bucket[1]
    logs = {"s3Logs": {"s3BucketName": "logs", "s3KeyPrefix": "steps/of"}}
    image = forge.build(
        forge.recipe(forge.component(build="echo said in a step")),
        infrastructureConfigurationArn=forge.infrastructure(logging=logs),
    )
    build = executions(forge, image["arn"])[0]["workflowExecutionId"]
    place = f"steps/of/{image['name']}/1.0.0/1/{build}/"
    assert keys(client, place) == [
        f"{place}{name}/step.log"
        for name in ("ApplyBuildComponents", "BootstrapBuildInstance", "LaunchBuildInstance")
    ]
    text = body(client, f"{place}ApplyBuildComponents/step.log")
    assert "said in a step\n" in text and text.endswith(f"{build} ApplyBuildComponents COMPLETED\n")


@pytest.mark.parametrize("name", ["nowhere", "secret"])
def test_a_bucket_that_takes_no_logs_fails_nothing(logging_server: RunningServer, name: str) -> None:
    """One that is not there, one that the role may not use: the image is made, and its log says what is missing."""
    forge = logging_server.forge
    logs = {"s3Logs": {"s3BucketName": name}}
    image = forge.build(
        forge.recipe(forge.component(build="true")), executionRole=ROLE,
        infrastructureConfigurationArn=forge.infrastructure(logging=logs),
    )  # fmt: skip
    log = logging_server.log(image["arn"])
    warnings = [line for line in log.splitlines() if "warning: the log of " in line]
    assert len(warnings) >= 3 and all(f"s3://{name}/{image['name']}/1.0.0/1/wf-" in line for line in warnings)
    words = "NoSuchBucket" if name == "nowhere" else "has no access to the bucket secret"
    assert all(words in line for line in warnings), warnings


def test_an_image_is_in_its_log_group(logging_server: RunningServer, bucket: tuple[str, Any]) -> None:
    """The service's own or the one that was asked for; both are in the bucket when the server has stopped."""
    forge, client = logging_server.forge, bucket[1]
    recipe = forge.recipe(forge.component(build="true"))
    own = forge.build(recipe)
    other = forge.build(recipe, executionRole=ROLE, loggingConfiguration={"logGroupName": "/mine/web"})
    assert other["loggingConfiguration"] == {"logGroupName": "/mine/web"}
    pipeline = forge.pipeline(
        recipe, executionRole=ROLE,
        loggingConfiguration={"imageLogGroupName": "/mine/nightly", "pipelineLogGroupName": "/mine/clock"},
    )  # fmt: skip
    run = forge.finished(forge.run(pipeline))
    logging_server.stop()
    logging_server.start()
    root = f"groups/{ACCOUNT}/{REGION}"
    for image, group, number in (
        (own, f"aws/imagebuilder/{own['name']}", 1), (other, "mine/web", 2), (run, "mine/nightly", 3)
    ):  # fmt: skip
        text = body(client, f"{root}/{group}/1.0.0/{number}/{image['name']}.log")
        assert text == logging_server.log(image["arn"]) and text.endswith("end | AVAILABLE\n")
    (key,) = keys(client, f"{root}/mine/clock/")
    assert key.endswith(f".{pipeline.rpartition('/')[2]}.log")
    assert [word in body(client, key) for word in (f"started {run['arn']}", "is AVAILABLE")] == [True, True]


def test_a_group_that_the_role_may_not_use_ends_the_run(logging_server: RunningServer) -> None:
    """Before anything is pushed; the reason names the group and the setting, and nothing is in that group."""
    forge = logging_server.forge
    image = forge.build(
        forge.recipe(forge.component(build="true")), "FAILED",
        executionRole=ROLE, loggingConfiguration={"logGroupName": "/yours/web"},
    )  # fmt: skip
    assert "has no access to the log group /yours/web" in image["state"]["reason"]
    assert not (logging_server.data_dir / "log-groups" / ACCOUNT / REGION / "yours").exists()
    assert image_config(uris(image)[0])["architecture"] == "amd64"


def test_one_step_is_followed_to_its_end(server: RunningServer, forge: Forge) -> None:
    """By the command, which waits for the step to begin, and over HTTP; both end with it, and the build goes on."""
    first, work, after = (forge.name("hold") for _ in range(3))
    # the file that lets a step go on stays in the instance: the next one would not wait
    hold = f"{HOLD}; rm /dev/shm/go"
    document = build_document(
        shell("First", hold.format(name=first))
        + shell("Work", f"echo in the step; {hold.format(name=work)}; echo and out")
        + shell("After", f"echo not in the step; {hold.format(name=after)}")
    )
    arn = run_with(forge, workflow(forge, "BUILD", document))
    held(first)
    command = [COMMAND, "image", "logs", arn, "-f", "--step", "Work", "--data-dir", str(server.data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None
        release(first)
        assert follower.stdout.readline().endswith(" | in the step\n")
        held(work)
        run = executions(forge, arn)[0]["workflowExecutionId"]
        stream = events(server, "/logs/step", stepExecutionId=steps(forge, run)["Work"]["stepExecutionId"])
        assert next(stream).endswith(" | in the step")
        release(work)
        held(after)
        assert [line.split(" | ")[1] for line in follower.stdout] == ["and out\n", f"{run} Work COMPLETED\n"]
        assert follower.wait(10) == 0
        assert [line.split(" | ")[-1] for line in stream] == [
            "and out", f"{run} Work COMPLETED", '{"status": "COMPLETED"}'
        ]  # fmt: skip
    release(after)
    forge.finished(arn)


def test_a_build_is_followed_over_http_to_its_end(server: RunningServer, forge: Forge) -> None:
    """What a real client gets while the build runs is its log, whole."""
    arn = forge.start(forge.recipe(forge.component(build="echo from inside")))
    *lines, end = events(server, "/logs/image", imageBuildVersionArn=arn)
    assert lines == server.log(arn).splitlines()
    assert lines[-1].endswith("end | AVAILABLE") and json.loads(end) == {"status": "AVAILABLE"}


def test_a_step_that_is_not_there_is_named(server: RunningServer, forge: Forge) -> None:
    """With the steps that there are; also when following, once the build is over."""
    arn = forge.build(forge.recipe(forge.component(build="true")))["arn"]
    for options in ((), ("-f",)):
        said = server.command("image", "logs", arn, "--step", "Nope", *options, status=1)
        assert "has a step Nope" in said and "ApplyBuildComponents" in said


def events(server: RunningServer, path: str, **query: str) -> Iterator[str]:
    """The data of the events of a stream, as they come."""
    address = ServerAddress.read(server.data_dir)
    assert address is not None
    key = operator_key(server.data_dir)
    target = f"{path}?{urlencode(query)}"
    request = AWSRequest("GET", address.url + target)
    SigV4Auth(Credentials(key.access_key_id, key.secret), "imagebuilder", REGION).add_auth(request)
    connection = http.client.HTTPConnection(urlsplit(address.url).netloc, timeout=60)
    connection.request("GET", target, headers=dict(request.headers.items()))
    response = connection.getresponse()
    assert response.status == 200, response.read()
    try:
        for line in response:
            if line.startswith(b"data: "):
                yield line.decode().removeprefix("data: ").rstrip("\n")
    finally:
        response.close()
        connection.close()
