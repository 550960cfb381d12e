"""Everything that the result of an instruction can depend on, by name: what the key of its cached result covers.

Left out on purpose: the time (an age limit covers what comes from the network), the limits of processes and
memory, and the content of caches of mounts, which begin empty. Values of variables are digests, as they may be
secret; whoever compares two inputs sees which of them changed. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagesmith.artifacts.cache_use import StepInputs
from imagesmith.copying.request import CopyRequest, PathSource, UrlSource
from imagesmith.dockerfile_builds.image_config import ImageConfig
from imagesmith.dockerfile_builds.run_instruction import run_words
from imagesmith.dockerfiles.model import RunInstruction
from imagesmith.dockerfiles.stages import ResolvedInstruction
from imagesmith.instances.command import NetworkKind
from imagesmith.values.names import sha256_hex


def run_inputs(
    config: ImageConfig, resolved: ResolvedInstruction, run: RunInstruction, *,
    sources: Mapping[str, Any], arguments: Mapping[str, str], network: NetworkKind,
) -> StepInputs:  # fmt: skip
    """Of a RUN. `sources`: what each mount is taken from, by the text of the mount."""
    words, script = run_words(config, run)
    own: NetworkKind = "none" if run.network and run.network.text == "none" else network
    mounts = {resolved.text(mount.token).text: sources.get(mount.token.text, "") for mount in run.mounts}
    return StepInputs(
        {
            "the instruction": _digest((words, script)),
            "ARG": _hidden(arguments), "ENV": _hidden(config.env),
            "the order of the variables": _digest([*arguments, *config.env]),
            "USER": config.user, "WORKDIR": config.working_dir, "the network": own, "--mount": mounts,
        },
        networked=own != "none",
    )  # fmt: skip


def copy_inputs(request: CopyRequest, *, source: Any, network: NetworkKind) -> StepInputs:
    """Of a COPY or ADD. `source`: what it can read of the stage or image that it copies from."""
    reads_source = any(isinstance(item, PathSource) for item in request.sources)
    downloads = any(isinstance(item, UrlSource) and not item.checksum for item in request.sources)
    return StepInputs(
        {"the instruction": _digest(request), "the copied files": source if reads_source else ""},
        networked=downloads and network != "none",
    )


def folder_inputs(config: ImageConfig) -> StepInputs:
    """Of a WORKDIR, which makes folders."""
    return StepInputs({"the instruction": config.working_dir, "USER": config.user})


def _hidden(values: Mapping[str, str]) -> dict[str, str]:
    return {name: _digest(value) for name, value in values.items()}


def _digest(value: object) -> str:
    """Of the representation, which is ASCII or not, but always text: half a character of UTF-16 is escaped."""
    return sha256_hex(repr(value))
