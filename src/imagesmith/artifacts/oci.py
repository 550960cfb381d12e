"""The documents of the OCI image specification, as far as their members are read or written here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict


class Descriptor(TypedDict):
    """The reference to a blob; also an entry of an index."""

    mediaType: str
    digest: str
    size: int
    artifactType: NotRequired[str]
    annotations: NotRequired[Mapping[str, str]]


class Manifest(TypedDict):
    """An image, or an artifact about one: its configuration and its layers, lowest first."""

    schemaVersion: int
    mediaType: str
    artifactType: NotRequired[str]
    config: Descriptor
    layers: Sequence[Descriptor]
    subject: NotRequired[Descriptor]
    annotations: NotRequired[Mapping[str, str]]


class ContainerDefaults(TypedDict, total=False):
    """Run settings of an image's containers; other tools may write null. The last four are docker's own."""

    User: str
    Env: Sequence[str] | None
    Entrypoint: Sequence[str] | None
    Cmd: Sequence[str] | None
    WorkingDir: str
    Labels: Mapping[str, str] | None
    Healthcheck: Mapping[str, object]
    OnBuild: Sequence[str]
    Shell: Sequence[str]
    StopTimeout: int


class RootFs(TypedDict):
    """`diff_ids`: digests of the uncompressed layers, lowest first."""

    type: str
    diff_ids: Sequence[str]


class History(TypedDict):
    created: str
    created_by: str


class Configuration(TypedDict):
    """An image's configuration."""

    created: NotRequired[str]
    architecture: NotRequired[str]
    os: NotRequired[str]
    config: NotRequired[ContainerDefaults]
    rootfs: RootFs
    history: NotRequired[Sequence[History]]


def descriptor(media_type: str, data: bytes) -> Descriptor:
    """The descriptor of a blob."""
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
