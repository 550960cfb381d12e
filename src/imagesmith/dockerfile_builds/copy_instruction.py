"""Carries out COPY and ADD: the request to the program that copies, from the texts of the instruction."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from imagesmith.copying.request import (
    CopyFailed,
    CopyRequest,
    CopySource,
    PathSource,
    TextSource,
    UrlSource,
)
from imagesmith.dockerfile_builds.failures import DockerfileFailed
from imagesmith.dockerfile_builds.stage_build import StageBuild
from imagesmith.dockerfiles.model import AddInstruction, CopyInstruction, Token
from imagesmith.dockerfiles.sources import is_git, is_remote
from imagesmith.dockerfiles.stages import ResolvedInstruction

_SHOWN: Final = 200


def carry_out_copy(
    stage: StageBuild, resolved: ResolvedInstruction, item: CopyInstruction | AddInstruction, source: Path
) -> None:
    """Copy from `source`, the root of the stage or image, or the build context. Raises DockerfileFailed,
    InstanceError, Cancelled."""
    request = copy_request(resolved, item, stage.config.working_dir or "/")
    context = stage.context
    try:
        with context.copiers.borrowed() as copier:
            result = copier.copy(
                request, source=source, target=stage.root(), cancellation=context.cancellation,
                timeout=context.seconds_left,
            )  # fmt: skip
    except CopyFailed as error:
        raise DockerfileFailed(f"failed: {error}") from error
    for index in result.unmatched:
        context.tell(f"warning: nothing matches '{_text(resolved, item.sources[index])[:_SHOWN]}'")
    for download in result.downloads:
        context.tell(f"{download.url} has sha256:{download.sha256}, {download.size} bytes")


def copy_request(resolved: ResolvedInstruction, item: CopyInstruction | AddInstruction, folder: str) -> CopyRequest:
    """What an instruction asks for; `folder` is that of WORKDIR. Raises DockerfileFailed."""
    adds = isinstance(item, AddInstruction)
    checksum = _text(resolved, item.checksum) if isinstance(item, AddInstruction) and item.checksum else ""
    sources: list[CopySource] = []
    for token in item.sources:
        text = _text(resolved, token)
        if adds and is_git(text):
            raise DockerfileFailed(f"failed: '{text[:_SHOWN]}' is a git repository: clone it in a RUN")
        sources.append(UrlSource(text, checksum) if adds and is_remote(text) else PathSource(text))
    for document in item.heredocs:
        content = resolved.text(document.word).text if document.expand else document.body
        sources.append(TextSource(document.delimiter, content.encode(errors="surrogateescape")))
    return CopyRequest(
        sources=tuple(sources),
        destination=_text(resolved, item.destination),
        folder=folder,
        chown=_text(resolved, item.chown) if item.chown else "",
        chmod=_text(resolved, item.chmod) if item.chmod else "",
        parents=isinstance(item, CopyInstruction) and item.parents,
        link=item.link,
        excludes=tuple(_text(resolved, token) for token in item.excludes),
        unpack=item.unpack if isinstance(item, AddInstruction) else None,
    )


def _text(resolved: ResolvedInstruction, token: Token) -> str:
    return resolved.text(token).text
