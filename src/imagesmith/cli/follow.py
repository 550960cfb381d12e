"""Follows a build: states and log lines as they happen; a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from imagesmith.build_logs.logs import follow, log_path, parse_line
from imagesmith.cli.log_watch import RetryingClient
from imagesmith.cli.screen import make_console
from imagesmith.values.states import FINAL_IMAGE, UNFINISHED_IMAGE, ImageStatus
from imagesmith.values.visible import visible

_POLL_SECONDS = 0.3
_STATES = (*UNFINISHED_IMAGE, ImageStatus.AVAILABLE)


def follow_build(
    server: RetryingClient,
    image_arn: str,
    data_dir: Path,
    *,
    quiet: bool = False,
    sleep: Callable[[float], None] = time.sleep,
    console: Console | None = None,
) -> Mapping[str, Any]:
    """Show a build until it ends and return the final image. `quiet` shows nothing. Raises CommandFailed."""
    out = console or make_console(quiet=quiet)
    image: Mapping[str, Any] = {}
    shown = ""
    started = time.monotonic()

    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(),
        console=out, transient=True, disable=quiet or not out.is_terminal,
    ) as progress:  # fmt: skip
        bar = progress.add_task(ImageStatus.PENDING, total=len(_STATES) - 1)

        def is_over() -> bool:
            nonlocal image, shown
            found = server.ask(lambda client: client.get_image(imageBuildVersionArn=image_arn)["image"])
            if found is None:
                return False
            image, status = found, found["state"]["status"]
            if status != shown:
                out.print(Text(f"{time.monotonic() - started:6.1f}s  {status}", style="bold cyan"))
                done = _STATES.index(status) if status in _STATES else None
                progress.update(bar, description=status, completed=done)
            shown = status
            return status in FINAL_IMAGE

        path = log_path(data_dir / "logs", image_arn)
        for line in follow(path, is_over, lambda: sleep(_POLL_SECONDS), ends=True):
            parts = parse_line(line)
            text = visible(parts.text) if out.is_terminal else parts.text
            out.print(Text(f"  {parts.stage:<10} {text}", style="dim"), soft_wrap=True, highlight=False)
    return image
