"""Watching a build: states and log lines as they happen; a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from imagesmith.cli.context import make_console
from imagesmith.cli.log_watch import Patient
from imagesmith.values.final_states import FINAL
from imagesmith.workflows.logs import follow, log_path, parse_line

_POLL_SECONDS = 0.3
_STATES = ("PENDING", "CREATING", "BUILDING", "TESTING", "DISTRIBUTING", "INTEGRATING", "AVAILABLE")


def follow_build(
    server: Patient,
    image_arn: str,
    data_dir: Path,
    *,
    quiet: bool = False,
    sleep: Callable[[float], None] = time.sleep,
    console: Console | None = None,
) -> Mapping[str, Any]:
    """Show a build until it is over and give the final image. `quiet` shows nothing. Raises CommandFailed."""
    out = console or make_console(quiet=quiet)
    seen: dict[str, Any] = {}
    started = time.monotonic()

    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(),
        console=out, transient=True, disable=quiet or not out.is_terminal,
    ) as progress:  # fmt: skip
        bar = progress.add_task("PENDING", total=len(_STATES) - 1)

        def is_over() -> bool:
            image = server.ask(lambda client: client.get_image(imageBuildVersionArn=image_arn)["image"])
            if image is None:
                return False
            status = image["state"]["status"]
            if seen.get("status") != status:
                out.print(Text(f"{time.monotonic() - started:6.1f}s  {status}", style="bold cyan"))
                done = _STATES.index(status) if status in _STATES else None
                progress.update(bar, description=status, completed=done)
            seen.update(status=status, image=image)
            return status in FINAL

        path = log_path(data_dir / "logs", image_arn)
        for line in follow(path, is_over, lambda: sleep(_POLL_SECONDS), ends=True):
            parts = parse_line(line)
            out.print(Text(f"  {parts.stage:<10} {parts.text}", style="dim"), soft_wrap=True, highlight=False)
    image: Mapping[str, Any] = seen["image"]
    return image
