"""What `imagesmith image show` prints of an image."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from imagesmith.cli.build_details import BuildDetails, read_details
from imagesmith.cli.image import describe
from testing.wire_support import settings_for

ARN = "arn:aws:imagebuilder:us-east-1:000000000000:image/web/1.0.0/3"


def test_a_narrow_terminal_loses_nothing_of_a_path() -> None:
    """It goes on in the next line, where others end it with three dots; brackets in it are no markup."""
    folder = Path("/srv/[red]" + "x" * 40)
    shown = io.StringIO()
    details = BuildDetails(digest="", size=0, packages=0, stages={})
    Console(file=shown, width=60).print(describe({"arn": ARN, "state": {"status": "FAILED"}}, details, folder))
    told = "".join(shown.getvalue().split())
    assert f"{folder}/logs/000000000000/us-east-1/web/1.0.0/3.log" in told and ARN in told


@pytest.mark.parametrize("there", ["nothing", "a folder", "an empty file"])
def test_details_are_unknown_where_the_server_keeps_its_data_elsewhere(tmp_path: Path, there: str) -> None:
    """Reading them makes no database, which a later server would take for a lost one."""
    folder, file = tmp_path / "data", tmp_path / "data" / "imagesmith.sqlite"
    if there != "nothing":
        folder.mkdir()
    if there == "an empty file":
        file.touch()
    assert read_details(settings_for(folder), ARN) == BuildDetails()
    assert folder.exists() == (there != "nothing")
    assert not file.exists() or file.stat().st_size == 0
    assert [path.name for path in folder.glob("*")] == (["imagesmith.sqlite"] if there == "an empty file" else [])
