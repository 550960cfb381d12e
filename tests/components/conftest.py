"""Running documents on this computer, below a temporary folder."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from imagesmith.components.reporting import LineReporter
from imagesmith.components.runner import RunOptions, run_documents
from imagesmith.components.services import Services, SystemClock
from imagesmith.instances.host import HostInstance
from testing.component_support import Act, Ran, RunText, document_run, one_step


@pytest.fixture
def run_text(tmp_path: Path) -> RunText:
    """Run texts of documents; more arguments go to run_documents()."""
    folder = tmp_path / "work"
    folder.mkdir()

    def run(
        *texts: str,
        parameters: Mapping[str, str] | None = None,
        secret_parameters: frozenset[str] = frozenset(),
        services: Services | None = None,
        environment: Mapping[str, str] | None = None,
        instance: Any = None,
        **more: Any,
    ) -> Ran:
        lines: list[str] = []
        numbers = itertools.count(1)
        runs = [
            document_run(text, f"doc{index}.yml", parameters=parameters or {}, secret_parameters=secret_parameters)
            for index, text in enumerate(texts, 1)
        ]
        result = run_documents(
            runs,
            instance or HostInstance(folder),
            clock=SystemClock(),
            ids=lambda: f"id-{next(numbers)}",
            options=RunOptions(
                services=services or Services(),
                environment=environment or {},
                account="111122223333",
                region="eu-west-1",
            ),
            reporter=LineReporter(lines.append),
            **more,
        )
        return Ran(result, folder, lines)

    return run


@pytest.fixture
def act(run_text: RunText) -> Act:
    """Run one list action and give the run."""

    def run(action: str, *entries: Mapping[str, Any]) -> Ran:
        return run_text(one_step(action, list(entries)))

    return run
