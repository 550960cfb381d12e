"""Two of a kind at the same time: servers on one data directory, runs of one pipeline."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from testing.commands import COMMAND
from testing.pipeline_support import RunningServer, uris

pytestmark = pytest.mark.tool


def test_a_second_server_on_a_data_directory_is_refused(server: RunningServer) -> None:
    """It says which process holds the directory, in one sentence, and the first one goes on undisturbed."""
    done = subprocess.run(
        [COMMAND, "serve", "--port", "0", "--data-dir", str(server.data_dir)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    first, hint = done.stderr.strip().splitlines()
    assert first == f"error: another server (process {server.pid}) uses the data directory {server.data_dir}"
    assert "--data-dir" in hint
    forge = server.forge
    forge.build(forge.recipe(forge.component(build="true")))


def test_two_starts_of_one_pipeline_make_two_builds(server: RunningServer) -> None:
    """Both are accepted, get numbers of their own, run side by side and end AVAILABLE."""
    forge = server.forge
    pipeline = forge.pipeline(forge.recipe(forge.component(build="sleep 1")))
    with ThreadPoolExecutor(2) as pool:
        arns = list(pool.map(lambda _: server.forge.run(pipeline), range(2)))
    assert sorted(arn.rpartition("/")[2] for arn in arns) == ["1", "2"]
    pushed = [uris(forge.finished(arn))[0].rpartition(":")[2] for arn in arns]
    assert sorted(pushed) == ["1.0.0-1", "1.0.0-2"]


def test_the_same_token_starts_one_build(server: RunningServer) -> None:
    """Requests with one client token at the same time are one run; those that come too early are told to retry."""
    forge = server.forge
    pipeline = forge.pipeline(forge.recipe(forge.component(build="true")))

    def start(_: int) -> str:
        client = server.client
        try:
            answer = client.start_image_pipeline_execution(imagePipelineArn=pipeline, clientToken="once")
        except client.exceptions.ResourceInUseException:
            return ""
        return str(answer["imageBuildVersionArn"])

    with ThreadPoolExecutor(4) as pool:
        arns = set(pool.map(start, range(4))) - {""}
    assert len(arns) == 1
    assert start(0) in arns
    forge.finished(arns.pop())
    assert len(forge.client.list_image_pipeline_images(imagePipelineArn=pipeline)["imageSummaryList"]) == 1
