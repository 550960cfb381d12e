"""Builds against buildah: one pipeline run and `buildah bud` of the equivalent Dockerfile, in turn, medians.

    .venv/bin/python benchmarks/builds.py [--rounds 5] [--postgresql]

The Dockerfile has three RUN steps, then two components of two steps each write files and install nothing, so that
the mirror plays no part. Both sides start from the same base, each on overlays of its own storage, and use nothing
of earlier builds; then the same again, unchanged, with the cache on both sides (`--layers`). Also printed: the time
from StartImagePipelineExecution to the first command in the container; with --postgresql the server keeps its store
and its journal in one that is started for the benchmark.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.build_logs.logs import log_path
from imagesmith.cli.build_details import read_details
from imagesmith.cli.context import connect, settings_of
from imagesmith.values.names import parse_instant
from schedule_clock import local_postgresql
from testing.buildah import Buildah, opened_buildah

REGION = "us-east-1"
WORK = "head -c 20000000 /dev/urandom > /srv/file-{n} && sha256sum /srv/file-{n}"
COMPONENT = """\
name: write
schemaVersion: 1.0
phases:
  - name: build
    steps:
      - name: Write
        action: ExecuteBash
        inputs:
          commands:
            - head -c 5000000 /dev/urandom > /srv/component-{n}
      - name: Sum
        action: ExecuteBash
        inputs:
          commands:
            - sha256sum /srv/component-{n}
"""
VARIABLES = "{{{ imagebuilder:environments }}}\n"


def runs() -> str:
    return "".join(f"RUN {WORK.format(n=number)}\n" for number in range(3))


def template() -> str:
    return (
        f"FROM {{{{{{ imagebuilder:parentImage }}}}}}\n{VARIABLES}{runs()}{{{{{{ imagebuilder:components }}}}}}\n"
    )


def equivalent(image: str) -> str:
    lines = [f"FROM {image}\n{runs()}"]
    for number in range(2):
        lines.append(f"RUN head -c 5000000 /dev/urandom > /srv/component-{number}\n")
        lines.append(f"RUN sha256sum /srv/component-{number}\n")
    return "".join(lines)


def start_server(data_dir: Path) -> subprocess.Popen[str]:
    command = [str(Path(sys.executable).parent / "imagesmith"), "serve", "--port", "0", "--data-dir", str(data_dir)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    if not re.match("listening on", server.stdout.readline()):
        raise SystemExit("the server did not start")
    return server


def make_pipeline(client: Any) -> str:
    components = []
    for number in range(2):
        arn = client.create_component(
            name=f"write-{number}",
            semanticVersion="1.0.0",
            platform="Linux",
            data=COMPONENT.replace("{n}", str(number)),
        )["componentBuildVersionArn"]
        components.append({"componentArn": arn})
    recipe = client.create_container_recipe(
        containerType="DOCKER",
        name="bench",
        semanticVersion="1.0.0",
        parentImage=f"arn:aws:imagebuilder:{REGION}:aws:image/debian-x86-12/x.x.x",
        dockerfileTemplateData=template(),
        components=components,
        targetRepository={"service": "ECR", "repositoryName": "bench"},
    )["containerRecipeArn"]
    infrastructure = client.create_infrastructure_configuration(name="bench", instanceProfileName="none")
    return str(
        client.create_image_pipeline(
            name="bench",
            containerRecipeArn=recipe,
            infrastructureConfigurationArn=infrastructure["infrastructureConfigurationArn"],
            imageTestsConfiguration={"imageTestsEnabled": False},
        )["imagePipelineArn"]
    )


FRESH = {"imagesmith:no-cache": "true"}
CACHED = {"imagesmith:cache": "1h"}


def run_pipeline(client: Any, pipeline: str, tags: dict[str, str]) -> tuple[float, str]:
    """Seconds from the call to AVAILABLE, and the image."""
    started = time.monotonic()
    arn = client.start_image_pipeline_execution(imagePipelineArn=pipeline, tags=tags)["imageBuildVersionArn"]
    while True:
        state = client.get_image(imageBuildVersionArn=arn)["image"]["state"]
        if state["status"] == "AVAILABLE":
            return time.monotonic() - started, arn
        if state["status"] in ("FAILED", "CANCELLED"):
            raise SystemExit(f"the build ended {state}")
        time.sleep(0.02)


def run_buildah(buildah: Buildah, image: str, *, layers: bool = False) -> float:
    """Seconds of `buildah bud` with the machine's default isolation, on overlays in a storage of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "Dockerfile"
        file.write_text(equivalent(image))
        started = time.monotonic()
        made = buildah.run(
            "buildah", "bud", "--runtime=runc", "--network=host", f"--layers={str(layers).lower()}",
            "-f", str(file), folder,
        )  # fmt: skip
        seconds = time.monotonic() - started
        if not layers:
            buildah.run("skopeo", "delete", f"containers-storage:@{made.splitlines()[-1]}")
        return seconds


def first_command(data_dir: Path, client: Any, image_arn: str) -> float:
    """Seconds from the start of the run to the first line that a component step wrote."""
    created = parse_instant(client.get_image(imageBuildVersionArn=image_arn)["image"]["dateCreated"])
    for line in log_path(data_dir / "logs", image_arn).read_text().splitlines():
        stamp, _, rest = line.partition(" ")
        if rest.startswith(("build | write-0", "dockerfile | STEP 2")):
            return (parse_instant(stamp) - created).total_seconds()
    raise SystemExit("no command ran")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--postgresql", action="store_true", help="instead of SQLite")
    options = parser.parse_args()
    rounds = options.rounds
    with ExitStack() as stack:
        data_dir = Path(tempfile.mkdtemp(prefix="imagesmith-bench-"))
        stack.callback(shutil.rmtree, data_dir, ignore_errors=True)
        if options.postgresql:
            database = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            url = stack.enter_context(local_postgresql(database))
            (data_dir / "settings.toml").write_text(f'database_url = "{url}"\n')
        server = start_server(data_dir)
        stack.callback(server.wait, 30)
        stack.callback(server.send_signal, signal.SIGTERM)
        client = connect(data_dir)
        untyped: Any = client
        pipeline = make_pipeline(untyped)
        run_pipeline(untyped, pipeline, FRESH)  # makes the base
        storage = ContainerStorage.for_data_dir(data_dir)
        base = min(storage.images(), key=lambda image: len(storage.image_config(image)["rootfs"]["diff_ids"]))
        buildah = stack.enter_context(opened_buildah(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        base = buildah.take(storage, base)
        ours, theirs, firsts = [], [], []
        for _ in range(rounds):
            seconds, arn = run_pipeline(untyped, pipeline, FRESH)
            ours.append(seconds)
            firsts.append(first_command(data_dir, untyped, arn))
            theirs.append(run_buildah(buildah, base))
        stages = read_details(settings_of(data_dir), arn).stages
        run_pipeline(untyped, pipeline, CACHED)
        run_buildah(buildah, base, layers=True)
        again = [
            (run_pipeline(untyped, pipeline, CACHED)[0], run_buildah(buildah, base, layers=True))
            for _ in range(rounds)
        ]
    mine, peer = statistics.median(ours), statistics.median(theirs)
    print(f"pipeline run, median of {rounds}: {mine:.2f} s   stages of the last: {dict(stages)}")
    print(f"buildah bud, median of {rounds}: {peer:.2f} s")
    print(f"ratio: {mine / peer:.2f} (goal: at most 0.5)")
    unchanged, layers = (statistics.median(side) for side in zip(*again, strict=True))
    print(f"unchanged: {unchanged:.2f} s, buildah bud --layers {layers:.2f} s, ratio {unchanged / layers:.2f}")
    goal = 1000 if options.postgresql else 500
    print(f"start to first command, median: {statistics.median(firsts) * 1000:.0f} ms (goal: under {goal} ms)")


if __name__ == "__main__":
    main()
