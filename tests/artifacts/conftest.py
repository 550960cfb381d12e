"""A storage, a tiny image and an empty layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesmith.artifacts.layout import OciLayout
from imagesmith.artifacts.storage import ContainerStorage
from testing.layouts import MakeImage


@pytest.fixture
def layout(tmp_path: Path) -> OciLayout:
    return OciLayout(tmp_path / "oci")


@pytest.fixture
def make_image(container_storage: ContainerStorage, tiny_image: str) -> Iterator[MakeImage]:
    """Images on the tiny one, each with a file of some text."""
    made: list[str] = []

    def make(text: str) -> str:
        container_storage.create("make-image", tiny_image)
        try:
            (container_storage.mount("make-image") / "text").write_text(text)
            made.append(container_storage.commit("make-image", labels={"text": text[:9]}))
        finally:
            container_storage.remove("make-image")
        return made[-1]

    yield make
    for image in made:
        container_storage.remove_image(image)
