"""`RUN --mount`: what one command sees of stages, images, caches and memory."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from imagesmith.copying.request import CopyFailed, CopyRequest, PathSource
from imagesmith.dockerfile_builds.config_instructions import working_folder
from imagesmith.dockerfile_builds.failures import DockerfileFailed
from imagesmith.dockerfile_builds.stage_build import StageBuild
from imagesmith.dockerfiles.go_values import byte_count
from imagesmith.dockerfiles.model import RunInstruction, RunMount
from imagesmith.dockerfiles.mounts import expanded_mount
from imagesmith.dockerfiles.stages import ResolvedInstruction
from imagesmith.instances.command import CommandMount, MemoryFolder, MountedTree
from imagesmith.instances.detached_mounts import detached_mount, thrown_away
from imagesmith.instances.mount_targets import mount_targets
from imagesmith.values.names import sha256_hex

RootOf = Callable[[RunMount], Path]
"""The root of the stage or image that a mount is taken from; of the build context for a mount without one."""
_CACHE_MODE: Final = 0o755


@contextmanager
def run_mounts(
    stage: StageBuild, resolved: ResolvedInstruction, run: RunInstruction, root_of: RootOf
) -> Iterator[list[CommandMount]]:
    """The mounts of a RUN, with their targets in its root during the block. Raises DockerfileFailed."""
    with ExitStack() as stack:
        found: list[CommandMount] = []
        targets: list[tuple[str, bool]] = []
        mounts = [_expanded(resolved, mount) for mount in run.mounts]
        caches = {_cache_id(stage, mount) for mount in mounts if mount.kind == "cache"}
        stack.enter_context(stage.context.caches.held(caches, wait=stage.context.check))
        for mount in mounts:
            try:
                made = _mount(stage, stack, mount, root_of)
            except (ValueError, OSError, CopyFailed) as error:
                raise _refused(mount, error) from error
            found.append(made)
            targets.append((made.target, not isinstance(made, MountedTree) or made.is_folder))
        stack.enter_context(mount_targets(stage.instance.root, targets, ids=stage.instance.ids))
        yield found


def cache_name(mount: RunMount) -> str | None:
    """What the cache of a mount is shared by; empty if only the build knows, None for other mounts."""
    if mount.kind != "cache":
        return None
    is_fixed = "$" not in mount.token.text and (mount.id or mount.target.startswith("/"))
    return (mount.id or posixpath.normpath(mount.target)) if is_fixed else ""


def _expanded(resolved: ResolvedInstruction, mount: RunMount) -> RunMount:
    try:
        return expanded_mount(mount, resolved.text(mount.token).text)
    except ValueError as error:
        raise _refused(mount, error) from error


def _refused(mount: RunMount, error: Exception) -> DockerfileFailed:
    return DockerfileFailed(f"--mount={mount.token.text[:200]} cannot be made: {error}")


def _mount(stage: StageBuild, stack: ExitStack, mount: RunMount, root_of: RootOf) -> CommandMount:
    target = working_folder(stage.config, mount.target)
    if target == "/":
        raise ValueError("it needs a target, and that cannot be /")
    if mount.kind == "tmpfs":
        return MemoryFolder(target, byte_count(mount.size) if mount.size else 0)
    if mount.kind == "cache":
        return _tree(stack, target, _cache(stage, mount, root_of), "/", read_only=bool(mount.read_only))
    if mount.kind != "bind":
        raise ValueError(f"a template has no mounts of type {mount.kind}")
    root = root_of(mount)
    read_only = mount.read_only is not False
    if not read_only:
        root = stack.enter_context(thrown_away(root, stage.context.work, stage.context.namespace.host_ids))
    try:
        return _tree(stack, target, root, mount.source or "/", read_only=read_only)
    except FileNotFoundError as error:
        raise ValueError(f"there is no '{mount.source[:200]}' in what it is taken from") from error


def _tree(stack: ExitStack, target: str, root: Path, source: str, *, read_only: bool) -> MountedTree:
    descriptor = detached_mount(root, source, read_only=read_only)
    stack.callback(os.close, descriptor)
    return MountedTree(target, descriptor, stat.S_ISDIR(os.fstat(descriptor).st_mode))


def _cache_id(stage: StageBuild, mount: RunMount) -> str:
    return mount.id or working_folder(stage.config, mount.target)


def _cache(stage: StageBuild, mount: RunMount, root_of: RootOf) -> Path:
    """The folder of a cache: one for each id, for this build."""
    folder = stage.context.work / "caches" / sha256_hex(_cache_id(stage, mount))
    if not folder.exists():
        folder.mkdir(parents=True)
        folder.chmod(int(mount.mode, 8) if mount.mode else _CACHE_MODE)
        ids = stage.context.namespace.host_ids
        os.chown(folder, ids.outside(int(mount.uid or 0)), ids.outside(int(mount.gid or 0)))
        if mount.image:
            request = CopyRequest(sources=(PathSource(mount.source or "/"),), destination="/")
            source = root_of(mount)
            with stage.context.copiers.borrowed() as copier:
                copier.copy(
                    request, source=source, target=folder, cancellation=stage.context.cancellation,
                    timeout=stage.context.seconds_left,
                )  # fmt: skip
    return folder
