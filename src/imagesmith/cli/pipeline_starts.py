"""Starts pipelines that mend images, in the order of ancestry: one waits for those that make its parents."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from imagesmith.cli.context import CommandFailed, api_errors, connect, print_json
from imagesmith.cli.log_watch import RetryingClient
from imagesmith.cli.screen import echo
from imagesmith.values.states import FINAL_IMAGE, ImageStatus
from imagesmith.vulnerabilities.answers import PipelineToStart

_POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Started:
    """A pipeline, and the image that it builds; without one `problem` says why."""

    pipeline: str
    image: str = ""
    problem: str = ""


def start_pipelines(
    data_dir: Path,
    pipelines: Sequence[PipelineToStart],
    *,
    as_json: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Start each pipeline after the images of those before it are AVAILABLE. Raises CommandFailed."""
    done: dict[str, Started] = {}
    for item in pipelines:
        done[item.arn] = started = _start(data_dir, item, done, sleep)
        if not as_json:
            echo(f"{item.arn}: {started.problem or f'started {started.image}'}")
    if as_json:
        print_json({"started": [asdict(item) for item in done.values()]})
    elif not pipelines:
        echo("no pipeline needs to be started")
    failed = [item for item in done.values() if item.problem]
    if failed:
        raise CommandFailed(f"{len(failed)} of {len(done)} pipelines were not started", failed[0].problem)


def _start(
    data_dir: Path, item: PipelineToStart, done: dict[str, Started], sleep: Callable[[float], None]
) -> Started:
    if item.pinned:
        return Started(
            item.arn, problem=f"its recipe is fixed to {item.pinned}: create a recipe with the new parent first"
        )
    for earlier in item.after:
        before = done.get(earlier)
        status = _end_of(data_dir, before.image, sleep) if before is not None and before.image else "not started"
        if status != ImageStatus.AVAILABLE:
            return Started(item.arn, problem=f"the image of {earlier}, which it is built on, is {status}")
    try:
        with api_errors():
            image = connect(data_dir).start_image_pipeline_execution(
                imagePipelineArn=item.arn, clientToken=str(uuid4())
            )["imageBuildVersionArn"]
    except CommandFailed as error:
        return Started(item.arn, problem=str(error))
    return Started(item.arn, image)


def _end_of(data_dir: Path, image_arn: str, sleep: Callable[[float], None]) -> str:
    """The state in which an image ends."""
    server = RetryingClient(data_dir)

    def ask(client: Any) -> str:
        return str(client.get_image(imageBuildVersionArn=image_arn)["image"]["state"]["status"])

    while True:
        status = server.ask(ask)
        if status is not None and status in FINAL_IMAGE:
            return status
        sleep(_POLL_SECONDS)
