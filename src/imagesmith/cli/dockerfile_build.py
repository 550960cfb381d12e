"""`imagesmith dockerfile build`: one build in the storage of the commands that need no server."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from imagesmith.artifacts.bases import ParentError
from imagesmith.artifacts.cache_use import CacheUse
from imagesmith.artifacts.layout import OciLayout
from imagesmith.artifacts.storage import ContainerStorage, StorageError
from imagesmith.cli.authoring import authoring_image, authoring_storage, instance_name
from imagesmith.cli.component_run import interruptible
from imagesmith.cli.context import CommandFailed, print_json, settings_of
from imagesmith.cli.screen import echo
from imagesmith.dockerfile_builds.build import DockerfileBuild
from imagesmith.instances.command import NetworkKind
from imagesmith.instances.protocol import InstanceError
from imagesmith.layers.layer_cache import UNUSED_SECONDS
from imagesmith.processes import Cancellation, ProcessFailed
from imagesmith.streams import Stream

_LAYOUT: Final = "oci:"


@dataclass(frozen=True, kw_only=True)
class AskedBuild:
    """The options of the command."""

    file: Path
    data_dir: Path
    as_json: bool
    parent: str
    images: Sequence[str]
    output: str
    timeout: float
    network: NetworkKind
    no_cache: bool


def build_once(asked: AskedBuild, text: str, problems: Sequence[Mapping[str, Any]], *, valid: bool) -> bool:
    """Build a text unless it is not valid, show how that ended, and return whether there is an image."""
    if asked.output and not asked.output.startswith(_LAYOUT):
        raise CommandFailed(f"'{asked.output}' is not an output", "write --output oci:FOLDER")
    image, message = "", "nothing was built: the Dockerfile has errors"
    if valid:
        try:
            image, message = _built(asked, text), ""
        except (StorageError, ParentError, InstanceError, ProcessFailed) as error:
            message = str(error)
    if asked.as_json:
        status = "success" if image else "failed"
        print_json({
            "status": status, "image": f"sha256:{image}" if image else "", "output": asked.output if image else "",
            "message": message, "problems": list(problems),
        })  # fmt: skip
    elif image:
        echo(f"built sha256:{image}" + (f" to {asked.output}" if asked.output else ""), fg="green")
    else:
        echo(message, fg="red", err=True)
    return bool(image)


def _built(asked: AskedBuild, text: str) -> str:
    cancellation = Cancellation()
    named = _images(asked.images)

    def on_line(line: str) -> None:
        if not asked.as_json:
            echo(line, fg="bright_black")

    def show(_stream: Stream, chunk: bytes) -> None:
        if not asked.as_json:
            echo(chunk.decode(errors="replace"), nl=False)

    with ExitStack() as stack:
        stack.enter_context(interruptible(cancellation))
        storage = authoring_storage(stack, asked.data_dir)

        def find(name: str) -> str:
            reference = named.get(name, name)
            return authoring_image(asked.data_dir, storage, reference, on_line=on_line, cancellation=cancellation)

        parent = storage.plain_image(find(asked.parent)) if asked.parent else None
        image = DockerfileBuild(
            storage=storage,
            text=text,
            name=f"{instance_name()}-file",
            find=find,
            parent=parent.id if parent else "",
            triggers=parent.triggers if parent else (),
            timeout=asked.timeout,
            network=asked.network,
            cache=_cache_use(asked, storage),
            at_once=settings_of(asked.data_dir).builds.stages_at_once,
            cancellation=cancellation,
            on_output=show,
        ).whole()
        stack.callback(storage.remove_image, image)
        if asked.output:
            _write(storage, image, asked.output, cancellation)
    return image


def _cache_use(asked: AskedBuild, storage: ContainerStorage) -> CacheUse:
    """Results of the builds of this data directory that need no server."""
    builds = settings_of(asked.data_dir).builds
    cache = storage.layer_cache(
        bytes_limit=builds.cache_mb * 1024**2, seconds_limit=UNUSED_SECONDS, now=time.time
    )  # fmt: skip
    started = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return CacheUse(
        cache=cache, owner="", lineage=str(asked.file.absolute()), build=f"the build of {started}, {os.getpid()}",
        max_age=builds.cache_max_age_hours * 3600.0, reads=not asked.no_cache,
    )  # fmt: skip


def _images(options: Sequence[str]) -> dict[str, str]:
    """The images that stand for names. Raises CommandFailed."""
    found = {}
    for option in options:
        name, equals, reference = option.partition("=")
        if not (name and equals and reference):
            raise CommandFailed(f"'{option}' names no image", "write --image NAME=IMAGE")
        found[name] = reference
    return found


def _write(storage: ContainerStorage, image: str, output: str, cancellation: Cancellation) -> None:
    folder = Path(output.removeprefix(_LAYOUT)).absolute()
    if folder.exists() and any(folder.iterdir()) and not (folder / "oci-layout").exists():
        raise CommandFailed(f"{folder} is neither empty nor a layout", "name another folder")
    with storage.scratch() as scratch:
        OciLayout(scratch / "oci").export_image(storage, image, "image", cancellation=cancellation)
        storage.tool(
            ["skopeo", "copy", "--quiet", f"oci:{scratch / 'oci'}:image", f"oci:{folder}:latest"],
            what=f"writing the image to {folder}", timeout=None, cancellation=cancellation,
        )  # fmt: skip
