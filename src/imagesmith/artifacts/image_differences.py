"""What differs between two container images, file by file. Only the layers are read that differ."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from imagesmith.artifacts.layout import OciLayout
from imagesmith.layers.entries import shown
from imagesmith.layers.layer_calls import LayerCalls
from imagesmith.layers.layer_listing import read_entries
from imagesmith.processes import Cancellation

_SHOWN: Final = 80
FileAttributes = Mapping[str, str]
"""What is compared of one file: words of people -> values."""


@dataclass(frozen=True)
class LayoutImage:
    """An image of a layout."""

    layout: OciLayout
    digest: str

    def diff_ids(self) -> tuple[str, ...]:
        return self.layout.read(self.digest).diff_ids

    def config(self) -> Mapping[str, Any]:
        """Without the digests of its layers, which are compared on their own."""
        return {name: value for name, value in self.layout.config(self.digest).items() if name != "rootfs"}


def image_differences(
    one: LayoutImage, two: LayoutImage, cancellation: Cancellation | None = None
) -> Iterator[str]:
    """A line for each difference, `NAME: ONE, TWO`; none for equal digests. Raises LayoutError, LayerError."""
    if one.digest == two.digest:
        return
    yield from _documents("config", one.config(), two.config())
    annotations = [image.layout.manifest(image.digest).get("annotations") or {} for image in (one, two)]
    yield from _documents("annotation", *annotations)
    layers, calls = (one.diff_ids(), two.diff_ids()), LayerCalls()
    if len(layers[0]) != len(layers[1]):
        yield f"layers: {len(layers[0])}, {len(layers[1])}"
    for number, pair in enumerate(zip(*layers, strict=False)):
        if pair[0] == pair[1]:
            blobs = [image.layout.read(image.digest).layers[number] for image in (one, two)]
            if blobs[0] != blobs[1]:
                yield f"layer {number + 1}: the same archive, compressed to other bytes"
            continue
        with calls.program.used():
            sides = [_files(calls, image, number, cancellation) for image in (one, two)]
        lines = list(file_differences(*sides))
        yield from (f"layer {number + 1}: {line}" for line in lines)
        if not lines:
            yield f"layer {number + 1}: the same files in another archive"


def file_differences(one: Mapping[bytes, FileAttributes], two: Mapping[bytes, FileAttributes]) -> Iterator[str]:
    """A line for each file that is not the same in two trees."""
    for path in sorted({*one, *two}):
        sides = one.get(path), two.get(path)
        if sides[0] is None or sides[1] is None:
            yield f"{shown(path)}: only in the {'second' if sides[0] is None else 'first'}"
            continue
        for name in sorted({*sides[0], *sides[1]}):
            values = sides[0].get(name, "none"), sides[1].get(name, "none")
            if values[0] != values[1]:
                yield f"{shown(path)}: {name} {values[0]}, {values[1]}"


def _documents(name: str, one: Mapping[str, Any], two: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted({*one, *two}):
        if one.get(key) != two.get(key):
            yield f"{name}: {key} {_text(one.get(key))}, {_text(two.get(key))}"


def _text(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _files(
    calls: LayerCalls, image: LayoutImage, number: int, cancellation: Cancellation | None
) -> Mapping[bytes, FileAttributes]:
    """The entries of a layer, which a sealed process reads."""
    digest = image.layout.read(image.digest).layers[number]
    with image.layout.files.path_of(digest).open("rb") as blob, tempfile.TemporaryFile() as lines:
        calls.list_entries(blob, lines, cancellation=cancellation)
        return read_entries(lines)
