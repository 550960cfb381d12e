"""What `imagesmith image show` prints of an image."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from imagesmith.cli.facts import ShownFacts
from imagesmith.cli.image import describe

ARN = "arn:aws:imagebuilder:us-east-1:000000000000:image/web/1.0.0/3"


def test_a_narrow_terminal_loses_nothing_of_a_path() -> None:
    """It goes on in the next line, where others end it with three dots; brackets in it are no markup."""
    folder = Path("/srv/[red]" + "x" * 40)
    shown = io.StringIO()
    facts = ShownFacts(digest="", size=0, packages=0, stages={})
    Console(file=shown, width=60).print(describe({"arn": ARN, "state": {"status": "FAILED"}}, facts, folder))
    told = "".join(shown.getvalue().split())
    assert f"{folder}/logs/000000000000/us-east-1/web/1.0.0/3.log" in told and ARN in told
