"""Reads and changes the configurations of images, in OCI's format and in docker's. Pure.

Members have the names of the specification in any case, as Docker reads them. ONBUILD triggers are instructions of
the next build: a container is made of the configuration without them, and the build runs them in the sandbox.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
EMPTY_LAYER = "sha256:" + hashlib.sha256(bytes(1024)).hexdigest()
"""The uncompressed content of a layer without entries: the end of an archive."""
SCRATCH_CONFIG: Final = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
MOST_BYTES: Final = 4 * 1024 * 1024
"""A longer configuration is refused, as other tools refuse it."""

_DOCKER_ONLY = {name.lower(): name for name in ("Healthcheck", "OnBuild", "Shell", "StopTimeout")}
_HOLDERS = ("config", "container_config")
_TRIGGERS = "onbuild"
_OUTER: Final = ("author", "architecture", "os", "os.version", "os.features", "variant")
_INNER: Final = (
    "User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal",
    "Healthcheck", "Shell", "StopTimeout",
)  # fmt: skip
_UNKNOWN: Final = "a layer of the parent, which has no history"


class OddConfiguration(ValueError):
    """An image's configuration cannot be read, or is ambiguous between readers."""


@dataclass(frozen=True)
class PlainImage:
    """An image of the storage without triggers, and the triggers of the image that it replaces, in their order."""

    id: str
    triggers: tuple[str, ...] = ()


def read_document(config: bytes) -> dict[str, Any]:
    """A configuration as a JSON object. Raises OddConfiguration."""
    if len(config) > MOST_BYTES:
        raise OddConfiguration(f"it is longer than {MOST_BYTES} bytes")
    try:
        document = json.loads(config)
    except (ValueError, RecursionError) as error:
        raise OddConfiguration(f"it is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise OddConfiguration("it is not a JSON object")
    return document


def layers_of(config: bytes) -> list[str]:
    """The digests of an image's uncompressed layers, lowest first. Raises OddConfiguration."""
    rootfs = read_document(config).get("rootfs")
    layers = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(layers, list) or not all(isinstance(layer, str) for layer in layers):
        raise OddConfiguration("it names no layers")
    return layers


def docker_members(config: bytes) -> Mapping[str, Any]:
    """Members of a configuration that OCI has no name for: `OnBuild`, `Healthcheck` and so on, where they are not
    empty. Raises OddConfiguration."""
    inner = _inner(read_document(config))
    return {name: value for key, value in inner.items() if value and (name := _DOCKER_ONLY.get(key.lower()))}


def triggers_of(config: bytes) -> tuple[str, ...]:
    """The triggers of an image, in their order. Raises OddConfiguration."""
    found = docker_members(config).get("OnBuild", ())
    if not isinstance(found, (list, tuple)) or not all(isinstance(trigger, str) for trigger in found):
        raise OddConfiguration("its member 'OnBuild' is not a list of strings")
    return tuple(found)


def without_triggers(config: bytes) -> bytes:
    """The same configuration without triggers, unchanged if it has none. Raises OddConfiguration."""
    document = read_document(config)
    plain = {name: _stripped(value) if name.lower() in _HOLDERS else value for name, value in document.items()}
    return config if plain == document else _encoded(plain)


def with_docker_members(converted: bytes, original: bytes) -> bytes:
    """Add to a configuration in OCI format the members that only docker has and obeys.

    Other builders write them too, and other readers ignore them. Raises OddConfiguration.
    """
    target = read_document(converted)
    known = _inner(target)
    present = {name.lower() for name in known}
    extra = {name: value for name, value in docker_members(original).items() if name.lower() not in present}
    return _encoded({**target, "config": {**known, **extra}}) if extra else converted


def committed_config(
    base: bytes, diff_ids: Sequence[str], *, created: datetime, created_by: str = "", comment: str = "",
    labels: Mapping[str, str] | None = None,
) -> bytes:  # fmt: skip
    """The configuration of an image that was committed from a container: `base` is that of the container's image.

    `diff_ids`: of all its layers, lowest first; those above the base's get an entry of the history each. Members
    that only docker's format has are left out, those of it that containers obey are kept. Raises OddConfiguration.
    """
    document, below = read_document(base), layers_of(base)
    moment = created.strftime("%Y-%m-%dT%H:%M:%SZ")
    inner = {name: value for name in _INNER if (value := _member(_inner(document), name))}
    if labels:
        inner["Labels"] = {**(inner.get("Labels") or {}), **labels}
    entry = {"created": moment, **({"created_by": created_by} if created_by else {}),
             **({"comment": comment} if comment else {})}  # fmt: skip
    added = len(diff_ids) - len(below)
    return _encoded(
        {
            "created": moment,
            **{name: document[name] for name in _OUTER if document.get(name)},
            "config": inner,
            "rootfs": {"type": "layers", "diff_ids": list(diff_ids)},
            "history": [
                *parent_history(document, moment),
                *([entry] * added if added else [{**entry, "empty_layer": True}]),
            ],
        }
    )


def parent_history(document: Mapping[str, Any], created: str) -> list[dict[str, Any]]:
    """The history of a parent, with as many layers as it has: one whose history lacks some gets one for each."""
    layers = len((document.get("rootfs") or {}).get("diff_ids") or ())
    known = [dict(entry) for entry in document.get("history") or () if isinstance(entry, dict)]
    if sum(not entry.get("empty_layer") for entry in known) == layers:
        return known
    return [{"created": document.get("created") or created, "comment": _UNKNOWN}] * layers


def layer_moment(config: bytes, number: int) -> int | None:
    """The time of a layer, lowest first from 0, in seconds of the epoch; None if the history has none."""
    try:
        history = json.loads(config)["history"]
        entry = [entry for entry in history if not entry.get("empty_layer")][number]
        return int(datetime.fromisoformat(entry["created"]).timestamp())
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _inner(document: Mapping[str, Any]) -> dict[str, Any]:
    found = _member(document, "config") or {}
    if not isinstance(found, dict):
        raise OddConfiguration("its member 'config' is not an object")
    return found


def _member(members: Mapping[str, Any], name: str) -> Any:
    """The last member of this name in any case, as Docker's reader has it."""
    found = [value for key, value in members.items() if key.lower() == name.lower()]
    return found[-1] if found else None


def _stripped(holder: Any) -> Any:
    if not isinstance(holder, dict):
        return holder
    return {name: value for name, value in holder.items() if name.lower() != _TRIGGERS}


def _encoded(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
