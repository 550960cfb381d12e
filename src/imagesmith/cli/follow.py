"""Watching a build: state changes and log lines as they happen, a spinner on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from imagesmith.cli.context import make_console
from imagesmith.workflows.logs import follow, log_path
from imagesmith.workflows.records import FINAL

_POLL_SECONDS = 0.3


def follow_build(
    client: Any,
    image_arn: str,
    data_dir: Path,
    *,
    quiet: bool = False,
    sleep: Callable[[float], None] = time.sleep,
    console: Console | None = None,
) -> Mapping[str, Any]:
    """Show a build until it is over and give the final image. `quiet` shows nothing."""
    out = console or make_console(quiet=quiet)
    seen: dict[str, Any] = {}
    started = time.monotonic()

    def is_over() -> bool:
        image = client.get_image(imageBuildVersionArn=image_arn)["image"]
        status = image["state"]["status"]
        if seen.get("status") != status:
            out.print(Text(f"{time.monotonic() - started:6.1f}s  {status}", style="bold cyan"))
        seen.update(status=status, image=image)
        return status in FINAL

    def show_line(line: str) -> None:
        _, _, rest = line.partition(" ")
        stage, _, text = rest.partition(" | ")
        out.print(Text(f"  {stage:<10} {text}", style="dim"), soft_wrap=True, highlight=False)

    path = log_path(data_dir / "logs", image_arn)
    if out.is_terminal and not quiet:
        with out.status("building") as status:
            for line in follow(path, is_over, lambda: sleep(_POLL_SECONDS)):
                status.update(f"{seen.get('status', 'PENDING')} {time.monotonic() - started:.0f}s")
                show_line(line)
    else:
        for line in follow(path, is_over, lambda: sleep(_POLL_SECONDS)):
            show_line(line)
    image: Mapping[str, Any] = seen["image"]
    return image
