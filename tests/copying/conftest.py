"""Roots to copy between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesmith.copying.copier import FileCopier
from testing.copy_support import CopyBench


@pytest.fixture
def bench(tmp_path: Path) -> CopyBench:
    """Two empty roots."""
    return CopyBench.make(tmp_path)


@pytest.fixture
def copier(tmp_path: Path) -> Iterator[FileCopier]:
    """A copier whose sandbox ends with the test."""
    with FileCopier(f"copying-{tmp_path.name[-40:]}-files", disk=tmp_path) as copier:
        yield copier
