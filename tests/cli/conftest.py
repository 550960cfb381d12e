"""Running `imagesmith component` in this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from imagesmith.cli.component import component


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command in a temporary folder with the given files."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMAGESMITH_DATA_DIR", str(tmp_path / "data"))

    def run(*arguments: str, **files: str) -> Result:
        for name, text in files.items():
            (tmp_path / f"{name}.yml").write_text(text)
        result = CliRunner().invoke(component, list(arguments))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run
