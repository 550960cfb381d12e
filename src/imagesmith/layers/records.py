"""Records of the layer store: images, working containers, layers.

A record is a JSON file that is replaced as a whole. An image's id is the digest of its configuration's bytes, which
are kept unchanged beside its record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


class RecordDamaged(ValueError):
    """A record cannot be read."""


@dataclass(frozen=True)
class LayerBlob:
    """A layer of an image: its archive's digest, and the compressed blob that is kept byte for byte."""

    diff_id: str
    digest: str
    size: int
    media_type: str


@dataclass(frozen=True)
class ImageRecord:
    """An image; layers lowest first. `manifest`: the digest of the manifest it came with, if there was one."""

    id: str
    layers: tuple[LayerBlob, ...] = ()
    manifest: str = ""
    names: tuple[str, ...] = ()

    @property
    def diff_ids(self) -> tuple[str, ...]:
        return tuple(layer.diff_id for layer in self.layers)


@dataclass(frozen=True)
class ContainerRecord:
    """A working container: the layers below its changes, lowest first. Its configuration is kept beside it.

    `boot`: the run of the machine in which it was made: its changes are never flushed.
    """

    name: str
    layers: tuple[LayerBlob, ...] = ()
    boot: str = ""


@dataclass(frozen=True)
class LayerRecord:
    """An unpacked layer. `boot`: the run of the machine in which it was unpacked: files that were not flushed
    since are not trusted after a power cut, but unpacked again."""

    diff_id: str
    boot: str
    entries: int = 0
    size: int = 0


def encode(record: ImageRecord | ContainerRecord | LayerRecord) -> str:
    return json.dumps(asdict(record), sort_keys=True)


def decode_image(data: bytes) -> ImageRecord:
    """Raises RecordDamaged."""
    try:
        value = json.loads(data)
        return ImageRecord(
            str(value["id"]), blobs_of(value["layers"]), str(value["manifest"]), tuple(map(str, value["names"]))
        )
    except (ValueError, KeyError, TypeError) as error:
        raise RecordDamaged(str(error)) from error


def decode_container(data: bytes) -> ContainerRecord:
    """Raises RecordDamaged."""
    try:
        value = json.loads(data)
        return ContainerRecord(str(value["name"]), blobs_of(value["layers"]), str(value["boot"]))
    except (ValueError, KeyError, TypeError) as error:
        raise RecordDamaged(str(error)) from error


def decode_layer(data: bytes) -> LayerRecord:
    """Raises RecordDamaged."""
    try:
        return LayerRecord(**json.loads(data))
    except (ValueError, TypeError) as error:
        raise RecordDamaged(str(error)) from error


def blobs_of(values: Sequence[Mapping[str, Any]]) -> tuple[LayerBlob, ...]:
    """Layers as records have them. Raises TypeError."""
    return tuple(LayerBlob(**value) for value in values)
