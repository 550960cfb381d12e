"""kill -9 of the server in the middle of a deletion: the same execution goes on, and nothing is left half done."""

from __future__ import annotations

import subprocess

import pytest

from testing.leaks import running_below
from testing.pipeline_support import RunningServer, eventually, uris
from testing.refusals import refused
from testing.socket_proxy import Gate
from testing.workflow_support import ROLE

pytestmark = pytest.mark.tool


def test_a_killed_deletion_goes_on(server: RunningServer, registry_gate: Gate) -> None:
    """The registry does not answer; the server is killed, starts again, and the registry is back."""
    forge = server.forge
    image = forge.build(forge.recipe(forge.component(build="echo gone > /gone")))
    arn, uri = image["arn"], uris(image)[0]
    registry_gate.shut()
    id = forge.client.start_resource_state_update(
        resourceArn=arn, state={"status": "DELETED"}, executionRole=ROLE, includeResources={"containers": True}
    )["lifecycleExecutionId"]
    eventually(lambda: forge.state(arn) == "DELETED", "the deletion has begun")
    server.kill()
    eventually(lambda: not running_below(server), "everything ends with the server", seconds=5)
    server.start()
    forge = server.forge
    assert forge.state(arn) == "DELETED"
    registry_gate.open()

    def status() -> str:
        found = forge.client.get_lifecycle_execution(lifecycleExecutionId=id)["lifecycleExecution"]
        return str(found["state"]["status"]) if "endTime" in found else ""

    assert eventually(status, "the execution ends", seconds=120) == "SUCCESS"
    with refused("ResourceNotFoundException"):
        forge.image(arn)
    argv = ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{uri}"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0 and "manifest unknown" in done.stderr
