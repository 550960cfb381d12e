"""A storage, a tiny image and an empty layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures_containers import container_storage, tiny_image
from imagesmith.artifacts.layout import OciLayout

__all__ = ["container_storage", "tiny_image"]


@pytest.fixture
def layout(tmp_path: Path) -> OciLayout:
    return OciLayout(tmp_path / "oci")
