"""`imagesmith image cancel | retry`: stop a build, or repeat the phase that failed."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import click

from imagesmith.cli.context import api_errors, connect, data_dir_option, json_option, print_json
from imagesmith.cli.image import get_image
from imagesmith.cli.screen import echo


@click.command()
@click.argument("reference")
@data_dir_option
@json_option
def cancel(reference: str, data_dir: Path, as_json: bool) -> None:
    """Stop a build: its commands end at once, its instances are removed, and it becomes CANCELLED.

    \b
    Example:  imagesmith image cancel web/1.0.0/1 --data-dir ./data
    """
    _act("cancel_image_creation", reference, data_dir, as_json=as_json)


@click.command()
@click.argument("reference")
@data_dir_option
@json_option
def retry(reference: str, data_dir: Path, as_json: bool) -> None:
    """Send a machine image that failed or was cancelled back to its test or distribution phase.

    \b
    It keeps its ARN, its AMI and the outputs of its finished workflows; the workflows of the phase run again.
    A build that has no AMI is refused: run its pipeline again.
    Example:  imagesmith image retry web-machine/1.0.0/1 --data-dir ./data
              imagesmith image logs -f web-machine/1.0.0/1 --data-dir ./data
    """
    _act("retry_image", reference, data_dir, as_json=as_json)


def _act(operation: str, reference: str, data_dir: Path, *, as_json: bool) -> None:
    with api_errors():
        client: Any = connect(data_dir)
        arn = get_image(data_dir, reference)["arn"]
        getattr(client, operation)(imageBuildVersionArn=arn, clientToken=str(uuid4()))
        state = client.get_image(imageBuildVersionArn=arn)["image"]["state"]["status"]
    if as_json:
        print_json({"imageBuildVersionArn": arn, "status": state})
        return
    echo(f"{arn} {state}")
