"""Makes images without ONBUILD triggers, so that a host tool can safely make a container from them.

`buildah from` carries out the triggers of an image itself: outside any sandbox, with the host's files as the build
context and the host's network. So no container is ever made from an image with triggers: it is made from an image
of the same layers whose configuration lacks them, and the build runs the triggers in the sandbox instead.

    image --buildah inspect--> triggers? --none--> itself
                                    +-----some--> configuration without them + the same layers -> image

buildah itself reports the triggers, so that both read the same: names of members in any case, in `config` and in
the old `container_config`, in OCI configurations too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagesmith.artifacts.oci import Descriptor, descriptor

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
EMPTY_LAYER = "sha256:" + hashlib.sha256(bytes(1024)).hexdigest()
"""The uncompressed content of a layer without entries: the end of an archive."""
_DOCKER_ONLY = {name.lower(): name for name in ("Healthcheck", "OnBuild", "Shell", "StopTimeout")}
_HOLDERS = ("config", "container_config")
_TRIGGERS = "onbuild"

MOST_BYTES = 64 * 1024 * 1024
"""buildah shows a configuration, which has 4 MiB at most, four times."""


class OddConfiguration(ValueError):
    """An image's configuration cannot be read, or is ambiguous between readers."""


@dataclass(frozen=True)
class PlainImage:
    """An image of the storage without triggers, and the triggers of the image that it replaces, in their order."""

    id: str
    triggers: tuple[str, ...] = ()


def triggers_of(inspected: bytes) -> tuple[str, ...]:
    """The triggers in what `buildah inspect --type=image` prints. Raises OddConfiguration."""
    return tuple(map(str, docker_members(inspected).get("OnBuild", ())))


def docker_members(inspected: bytes) -> Mapping[str, Any]:
    """Members of an image's or container's configuration that only docker's format has, from the output of
    `buildah inspect`. Raises OddConfiguration."""
    try:
        found = (json.loads(inspected).get("Docker") or {}).get("config") or {}
        return {name: found[name] for name in _DOCKER_ONLY.values() if found.get(name)}
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise OddConfiguration(f"it cannot be read: {error}") from error


def without_triggers(config: bytes) -> bytes:
    """The same configuration without triggers. Raises OddConfiguration."""
    try:
        document = json.loads(config)
    except (ValueError, RecursionError) as error:
        raise OddConfiguration(f"it is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise OddConfiguration("it is not a JSON object")
    plain = {name: _stripped(value) if name.lower() in _HOLDERS else value for name, value in document.items()}
    return json.dumps(plain, separators=(",", ":")).encode()


def without_empty_layer(config: bytes) -> bytes:
    """An image's configuration without an empty top layer; unchanged if the top layer is not empty.

    buildah writes a layer for instructions that change no file. Raises OddConfiguration.
    """
    try:
        document = json.loads(config)
        layers = document["rootfs"]["diff_ids"]
        history = document.get("history") or []
        made = [entry for entry in history if not entry.get("empty_layer")]
        if len(layers) < 2 or layers[-1] != EMPTY_LAYER or (history and len(made) != len(layers)):
            return config
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise OddConfiguration(f"it cannot be read: {error}") from error
    if made:
        made[-1]["empty_layer"] = True
    document["rootfs"]["diff_ids"] = layers[:-1]
    return json.dumps(document, separators=(",", ":")).encode()


def with_docker_members(converted: bytes, original: bytes) -> bytes:
    """Add to a configuration in OCI format the members that only docker has and obeys.

    Other builders write them too, and other readers ignore them. Raises OddConfiguration.
    """
    try:
        target, source = json.loads(converted), json.loads(original)
        inner = source.get("config") or {}
        known = target.get("config") or {}
        present = {name.lower() for name in known}
        found = {name: value for key, value in inner.items() if value and (name := _DOCKER_ONLY.get(key.lower()))}
        extra = {name: value for name, value in found.items() if name.lower() not in present}
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise OddConfiguration(f"it cannot be read: {error}") from error
    if not extra:
        return converted
    return json.dumps({**target, "config": {**known, **extra}}, separators=(",", ":")).encode()


def _stripped(holder: Any) -> Any:
    if not isinstance(holder, dict):
        return holder
    return {name: value for name, value in holder.items() if name.lower() != _TRIGGERS}


def write_view(folder: Path, config: bytes) -> str:
    """Write a layout with an image whose layers the reader already has; returns the image's id.

    Its layers are named by their diff ids, and their blobs are absent.
    """
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def put(data: bytes, kind: str) -> Descriptor:
        described = descriptor(kind, data)
        (blobs / described["digest"].removeprefix("sha256:")).write_bytes(data)
        return described

    try:
        layers = [str(layer) for layer in json.loads(config)["rootfs"]["diff_ids"]]
    except (KeyError, TypeError) as error:
        raise OddConfiguration("it names no layers") from error
    kept = put(config, CONFIG_TYPE)
    manifest = {
        "schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": kept,
        # a layer with a known digest is not read, so its size is not checked either
        "layers": [{"mediaType": _LAYER_TYPE, "digest": layer, "size": 1} for layer in layers],
    }  # fmt: skip
    entry = put(json.dumps(manifest).encode(), MANIFEST_TYPE)
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    return str(kept["digest"]).removeprefix("sha256:")


def plain_image(
    image: str,
    *,
    inspect: Callable[[str], bytes],
    read_config: Callable[[str], bytes],
    copy: Callable[[Path, str], object],
    folder: Path,
) -> PlainImage:
    """The image to use in place of `image`. Raises OddConfiguration, and the errors of the tools.

    `inspect` returns buildah's view of an image; `read_config` its unchanged configuration; `copy` copies a layout
    in a folder into the storage under an id; `folder` is empty.
    """
    triggers = triggers_of(inspect(image))
    if not triggers:
        return PlainImage(image)
    plain = write_view(folder, without_triggers(read_config(image)))
    copy(folder, plain)
    if triggers_of(inspect(plain)):
        raise OddConfiguration("its ONBUILD triggers cannot be taken out")
    return PlainImage(plain, triggers)
