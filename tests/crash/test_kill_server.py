"""kill -9 of the server in every stage of a build: nothing is lost, nothing happens twice, nothing is left."""

from __future__ import annotations

import json
import signal

import pytest

from testing.crash_support import AGAIN, STAGES, catch
from testing.leaks import running_below
from testing.pipeline_support import RunningServer, eventually, image_digest, uris
from testing.socket_proxy import Gate

pytestmark = pytest.mark.tool


def assert_built_once(server: RunningServer, arn: str) -> None:
    """The image is AVAILABLE, the registry has what was built, and there is one build of it."""
    forge = server.forge
    image = forge.finished(arn)
    built = json.loads(server.command("image", "show", arn, "--json"))["build"]
    assert image_digest(f"docker://{uris(image)[0]}") == built["digest"]
    version = arn.rpartition("/")[0]
    builds = forge.client.list_image_build_versions(imageVersionArn=version)["imageSummaryList"]
    assert [build["arn"] for build in builds] == [arn]
    assert server.log(arn).count("end | AVAILABLE") == 1


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_server_goes_on_with_the_build(server: RunningServer, registry_gate: Gate, stage: str) -> None:
    """Nothing outlives the server; after the restart the stage begins again and the build ends once."""
    caught = catch(stage, server.forge, registry_gate)
    server.kill()
    eventually(lambda: not running_below(server), "everything ends with the server", seconds=5)
    server.start()
    caught.let_go()
    assert_built_once(server, caught.arn)
    assert not [group for group in caught.groups if group.exists() and "buildah" in group.name]
    again = [line for line in server.log(caught.arn).splitlines() if "the server stopped " in line]
    assert len(again) == 1 and again[0].endswith(AGAIN[stage]), again


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_server_goes_on_with_the_build(
    server: RunningServer, registry_gate: Gate, how: signal.Signals
) -> None:
    """SIGTERM and Ctrl-C end the server soon although a step runs; the build resumes at the next start."""
    caught = catch("components", server.forge, registry_gate)
    assert server.stop(how) < 20
    assert not server.containers()
    server.start()
    caught.let_go()
    assert_built_once(server, caught.arn)
