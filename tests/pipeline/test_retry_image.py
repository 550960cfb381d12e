"""RetryImage of machine images: the phase that did not succeed runs once more, on what the build left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from testing.leaks import assert_clean
from testing.machine_images import ADOPT, Base, built, registering, root_of, start
from testing.object_store import object_store, store_settings
from testing.pipeline_support import ACCOUNT, REGION, Forge, RunningServer, eventually
from testing.postgresql import new_postgresql_database
from testing.refusals import refused
from testing.workflow_support import ROLE, answer, executions, steps, waiting, workflow

pytestmark = pytest.mark.tool

HOOK = """\
#!/bin/sh
name=$(tr -cd a-z0-9-)
echo once >>$0.$name.calls
until [ ! -e $0.$name.hold ]; do sleep 0.05; done
case $name in ami-*) exec echo '"seen"';; esac
[ -e $0.$name.ok ] && exec echo '{"n": 1}'
echo "not yet" >&2
exit 1
"""
CALL = """\
  - name: %s
    action: ExecuteStateMachine
    inputs:
      stateMachineArn: arn:aws:states:us-east-1:000000000000:stateMachine:gate
      %s
"""
HEAD = "name: mine\nschemaVersion: 1.0\nsteps:\n"
OUTPUT = 'outputs:\n  - {name: seen, value: "$.stepOutputs.See.output"}\n'
SEE = HEAD + CALL % ("See", 'input: "\\"{{ $.workflowOutputs.ImageId }}\\""') + OUTPUT
WAIT = HEAD + "  - {name: Ask, action: WaitForAction}\n"
on_both_databases = pytest.mark.parametrize("server", ["sqlite", "postgresql"], indirect=True)


class Outside:
    """What tests of images depend on and the server does not know: programs that fail until they are let."""

    def __init__(self, folder: Path) -> None:
        self.program = folder / "hook.sh"
        self.program.write_text(HOOK)
        self.program.chmod(0o755)

    def allow(self, name: str) -> None:
        self._file(name, "ok").touch()

    def hold(self, name: str) -> None:
        self._file(name, "hold").touch()

    def let_go(self, name: str) -> None:
        self._file(name, "hold").unlink()

    def calls(self, name: str) -> int:
        path = self._file(name, "calls")
        return len(path.read_text().splitlines()) if path.exists() else 0

    def _file(self, name: str, kind: str) -> Path:
        return Path(f"{self.program}.{name}.{kind}")


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Outside:
    return Outside(tmp_path_factory.mktemp("outside"))


@pytest.fixture(scope="module")
def buckets() -> Iterator[Any]:
    """A client of an S3 server that has no bucket yet."""
    with object_store() as client:
        yield client


@pytest.fixture(scope="module")
def server(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    tiny_parent: str,
    outside: Outside,
    buckets: Any,
) -> Iterator[RunningServer]:
    """On SQLite, where a test does not ask for another database."""
    folder = tmp_path_factory.mktemp("retries")
    settings = store_settings(buckets.meta.endpoint_url, folder)
    settings += f'[hooks.gate]\ncommand = ["{outside.program}"]\n'
    if getattr(request, "param", "sqlite") == "postgresql":
        url = new_postgresql_database(request.getfixturevalue("postgresql"), "retries")
        settings = f'database_url = "{url}"\n{settings}'
    with RunningServer(folder / "data", parent=tiny_parent, settings=settings) as running:
        yield running.start()
        running.stop()
        assert_clean(running)


def asking(name: str) -> str:
    """A document with one step that fails until `name` is allowed."""
    return HEAD + CALL % ("Call", f"input: '\"{name}\"'")


def retry(forge: Forge, arn: str, **members: str) -> None:
    assert forge.client.retry_image(imageBuildVersionArn=arn, **members)["imageBuildVersionArn"] == arn


def told(forge: Forge, arn: str) -> list[tuple[str, str, bool]]:
    """(type, status, retried) of every workflow of an image."""
    return [(item["type"], item["status"], item["retried"]) for item in executions(forge, arn)]


@on_both_databases
def test_a_failed_test_phase_is_repeated_on_the_same_build(forge: Forge, base: Base, outside: Outside) -> None:
    """The image is the same, built once; every test runs again under new ids, the first tries are retried."""
    name = forge.name("late")
    tests = [{"workflowArn": workflow(forge, "TEST", text)} for text in (SEE, asking(name))]
    failed = built(forge, base, registering(forge, root_of(base)), *tests, ADOPT, end="FAILED")
    assert failed["state"]["failureContext"]["imageStatus"] == "TESTING"
    first = executions(forge, failed["arn"])
    outside.allow(name)
    for _ in range(2):
        retry(forge, failed["arn"], clientToken="only-once")
    image = forge.finished(failed["arn"])
    assert image["state"] == {"status": "AVAILABLE"}
    assert image["outputResources"] == failed["outputResources"]
    build = ("BUILD", "COMPLETED", False)
    done, again = ("TEST", "COMPLETED", True), ("TEST", "COMPLETED", False)
    assert told(forge, image["arn"]) == [
        build, done, ("TEST", "ROLLBACK_COMPLETED", True), again, again, ("DISTRIBUTION", "COMPLETED", False),
    ]  # fmt: skip
    found = executions(forge, image["arn"])
    assert [item["workflowExecutionId"] for item in found[:3]] == [item["workflowExecutionId"] for item in first]
    assert len({item["workflowExecutionId"] for item in found}) == 6
    see = steps(forge, found[3]["workflowExecutionId"])["See"]
    assert json.loads(see["inputs"])["input"] == f'"{image["outputResources"]["amis"][0]["image"]}"'
    assert outside.calls(name) == 2
    assert "retry 1 begins in TESTING" in forge.server.log(image["arn"])
    with refused("InvalidRequestException") as refusal:
        forge.client.retry_image(imageBuildVersionArn=image["arn"])
    assert "is AVAILABLE; only a failed or cancelled one is retried" in refusal.message


def test_a_failed_distribution_is_repeated_with_its_own_settings(forge: Forge, base: Base, buckets: Any) -> None:
    """The export goes where the image was to go when it was started, whatever was configured since."""
    name = forge.name("bucket")
    export = {"roleName": "vmie", "diskImageFormat": "RAW", "s3Bucket": name, "s3Prefix": "golden/"}
    wanted = [{"region": REGION, "s3ExportConfiguration": export}]
    distribution = forge.client.create_distribution_configuration(name=forge.name("dist"), distributions=wanted)
    arn = distribution["distributionConfigurationArn"]
    test = {"workflowArn": workflow(forge, "TEST", SEE)}
    failed = built(
        forge, base, registering(forge, root_of(base)), test, end="FAILED", distributionConfigurationArn=arn
    )
    assert failed["state"]["failureContext"]["imageStatus"] in ("DISTRIBUTING", "INTEGRATING")
    forge.client.update_distribution_configuration(
        distributionConfigurationArn=arn, distributions=[{"region": REGION, "amiDistributionConfiguration": {}}]
    )
    buckets.create_bucket(Bucket=name)
    retry(forge, failed["arn"])
    image = forge.finished(failed["arn"])
    ami = image["outputResources"]["amis"][0]["image"]
    listed = buckets.list_objects_v2(Bucket=name)["Contents"]
    signed = ("", ".cdx", ".spdx", ".test-result", ".vsa")
    beside = sorted(("", ".sha256", ".cdx.json", ".spdx.json", *(f"{part}.sigstore.json" for part in signed)))
    assert [item["Key"] for item in listed] == [f"golden/export-{ami}.raw{suffix}" for suffix in beside]
    assert told(forge, image["arn"]) == [("BUILD", "COMPLETED", False), ("TEST", "COMPLETED", False)]
    assert "the server stopped" not in forge.server.log(image["arn"])


def test_a_distribution_workflow_begins_from_its_first_step_and_may_fail_again(
    forge: Forge, base: Base, outside: Outside
) -> None:
    """It sees what the tests of the first try put out; a second retry follows a first that failed."""
    early, late = forge.name("early"), forge.name("late")
    outside.allow(early)
    outside.allow("seen")
    text = HEAD + "".join(
        CALL % (step, f"input: {value}")
        for step, value in (
            ("First", f"'\"{early}\"'"), ("Told", "'{{ $.workflowOutputs.seen }}'"),
            ("Last", f"'\"{late}\"'"),
        )
    )  # fmt: skip
    more = [{"workflowArn": workflow(forge, "TEST", SEE)}, {"workflowArn": workflow(forge, "DISTRIBUTION", text)}]
    failed = built(forge, base, registering(forge, root_of(base)), *more, end="FAILED")
    retry(forge, failed["arn"])
    assert forge.finished(failed["arn"], "FAILED")["state"]["failureContext"]["failedStep"] == "Last"
    outside.allow(late)
    retry(forge, failed["arn"])
    image = forge.finished(failed["arn"])
    assert [(type, retried) for type, _, retried in told(forge, image["arn"])] == [
        ("BUILD", False), ("TEST", False), ("DISTRIBUTION", True), ("DISTRIBUTION", True), ("DISTRIBUTION", False),
    ]  # fmt: skip
    assert (outside.calls(early), outside.calls(late)) == (3, 3)


def test_a_build_that_failed_before_its_ami_is_not_retried(forge: Forge, base: Base) -> None:
    """The refusal says that there is no output AMI, and the image stays as it is."""
    image = built(forge, base, registering(forge, {"blockDeviceMapping": []}), end="FAILED")
    with refused("InvalidRequestException") as refusal:
        forge.client.retry_image(imageBuildVersionArn=image["arn"])
    assert "before its build had an output AMI" in refusal.message
    assert forge.image(image["arn"]) == image


def test_a_cancelled_wait_is_waited_for_again(forge: Forge, base: Base) -> None:
    """The retry waits under new ids and can be cancelled and retried itself, from the shell; an answer ends it."""
    test = {"workflowArn": workflow(forge, "TEST", WAIT)}
    arn = start(forge, base.ami, workflows=[registering(forge, root_of(base)), test], executionRole=ROLE)
    seen = set()
    for _ in range(2):
        seen.add(waiting(forge, arn)["stepExecutionId"])
        assert arn in forge.server.command("image", "cancel", arn)
        assert forge.finished(arn, "CANCELLED")["state"] == {"status": "CANCELLED"}
        told_back = json.loads(forge.server.command("image", "retry", arn, "--json"))
        assert told_back == {"imageBuildVersionArn": arn, "status": "TESTING"}
    step = waiting(forge, arn)
    assert step["stepExecutionId"] not in seen and len(seen) == 2
    answer(forge, step)
    forge.finished(arn)
    cancelled = ("TEST", "CANCELLED", True)
    assert told(forge, arn) == [
        ("BUILD", "COMPLETED", False), cancelled, cancelled, ("TEST", "COMPLETED", False),
    ]  # fmt: skip


def test_a_parallel_group_is_repeated_as_one(forge: Forge, base: Base, outside: Outside) -> None:
    """Members that passed run again with those that failed."""
    names = [forge.name("member") for _ in range(3)]
    for name in names[:2]:
        outside.allow(name)
    tests = [{"workflowArn": workflow(forge, "TEST", asking(name)), "parallelGroup": "g"} for name in names]
    failed = built(forge, base, registering(forge, root_of(base)), *tests, end="FAILED")
    outside.allow(names[2])
    retry(forge, failed["arn"])
    forge.finished(failed["arn"])
    retried = [retried for _, _, retried in told(forge, failed["arn"])]
    assert retried == [False, True, True, True, False, False, False]
    assert outside.calls(names[2]) == 2


@on_both_databases
def test_a_kill_during_a_retry_does_not_end_it(forge: Forge, base: Base, outside: Outside) -> None:
    """kill -9 in a test of the retry: the server goes on with it after its start, and tests before it stay done."""
    first, late = forge.name("first"), forge.name("late")
    outside.allow(first)
    tests = [{"workflowArn": workflow(forge, "TEST", asking(name))} for name in (first, late)]
    arn = built(forge, base, registering(forge, root_of(base)), *tests, end="FAILED")["arn"]
    outside.allow(late)
    outside.hold(late)
    retry(forge, arn)
    eventually(lambda: outside.calls(late) == 2, "the test runs again")
    server = forge.server
    server.kill()
    server.start()
    eventually(lambda: outside.calls(late) == 3, "the test goes on")
    outside.let_go(late)
    again = server.forge
    again.finished(arn)
    assert outside.calls(first) == 2
    assert [retried for _, _, retried in told(again, arn)] == [False, True, True, False, False]


def test_a_retry_of_somebody_elses_image_is_refused(forge: Forge) -> None:
    """An image that does not exist is not found."""
    with pytest.raises(ClientError, match="ResourceNotFound"):
        forge.client.retry_image(
            imageBuildVersionArn=f"arn:aws:imagebuilder:{REGION}:{ACCOUNT}:image/nobody/1.0.0/1"
        )
