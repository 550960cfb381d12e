"""Building a Dockerfile with buildah inside a sandbox of its own.

    Sandbox (outer)   buildah; its storage, its configuration, an empty build context; no host, no loopback of it
      runc            one container per RUN: own processes and mounts, our capabilities and system call filter

Isolation is `oci` and not `chroot`, though a RUN costs some 100 ms more: under `chroot` a RUN shares the process
namespace with buildah's helpers, and through /proc/1/root sees the layers of every other build; it also gets
every device node of /dev that buildah sees.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shlex
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from imagesmith import processes
from imagesmith.artifacts.storage import ContainerStorage, StorageError
from imagesmith.dockerfiles.images import ImageUse, takes_from_images
from imagesmith.dockerfiles.template import (
    images_of,
    read_problems,
    runs_behind_volumes,
    uses_docker_members,
    with_checked_images,
)
from imagesmith.dockerfiles.triggers import TriggerError, parse_trigger
from imagesmith.instances import runtime_program
from imagesmith.instances.bubblewrap import Bind, View
from imagesmith.instances.limits import ControlGroups, ResourceLimits, find_groups
from imagesmith.instances.network import NetworkKind
from imagesmith.instances.protocol import InstanceError
from imagesmith.instances.runtime_program import RESERVED
from imagesmith.instances.sandbox import HOLDER, Sandbox
from imagesmith.instances.seccomp import profile
from imagesmith.instances.view import program_binds, python_program
from imagesmith.processes import Cancellation, OnOutput, ProcessFailed

_STEP = re.compile(r"(?:\[\d+/\d+\] )?STEP \d+/\d+: (.*)")
_NO_PROCESS = os.strerror(errno.EAGAIN).lower()
_TAIL_LINES = 12
_PULL_SECONDS = 3600.0
_WHOLE_ID = re.compile(r"[0-9a-f]{64}")
_HOST_FILES = (Path("/etc/containers"), Path("/etc/ssl/certs"))
"""What buildah itself reads: the pull policy and the certificates of registries."""

_RUNTIME = "/runtime.py"
"""Where buildah's world holds the program that starts runc."""

_RUNTIME_SCRIPT = f"""\
#!/bin/sh
case " $* " in
*" create "* | *" run "* | *" delete "*) exec {shlex.join(python_program(_RUNTIME))} runc "$@" ;;
esac
exec runc "$@"
"""
"""What buildah calls as the runtime; only a container that is made or forgotten has something to edit."""

_DROPPED = ("CAP_NET_BIND_SERVICE", "CAP_SETPCAP", "CAP_MKNOD", "CAP_NET_RAW", "CAP_AUDIT_WRITE")
"""What buildah would grant beyond the capabilities of a component instance."""


class DockerfileFailed(InstanceError):
    """An instruction failed; the text names it and has its last output."""


def build_dockerfile(
    storage: ContainerStorage,
    text: str,
    *,
    name: str,
    limits: ResourceLimits,
    timeout: float,
    network: NetworkKind = "outbound",
    cancellation: Cancellation | None = None,
    on_output: OnOutput | None = None,
    pull: Callable[[str], object] | None = None,
) -> str:
    """Build a Dockerfile whose FROM may be a whole id of the storage; gives the image id.

    Every other image that it names is pulled first, by `pull` when the caller has credentials: what lies in the
    storage by that name may be somebody else's. `timeout` is in seconds, for the whole build. Raises
    DockerfileFailed, InstanceError, Cancelled, and what `pull` raises.
    """
    problems = read_problems(text)
    if problems:
        raise DockerfileFailed(f"the Dockerfile cannot be built: {problems[0].render('Dockerfile')}")
    try:
        text = with_checked_images(text)
    except ValueError as error:
        raise DockerfileFailed(f"the Dockerfile cannot be built: {error}") from error
    if storage.probe.copies_everything and runs_behind_volumes(text):
        # without overlay the builder saves and restores a volume by its path, and follows links there
        raise DockerfileFailed("the storage copies whole roots (vfs), where no RUN can stand behind a VOLUME")
    images = _fetch(images_of(text), pull or partial(_pull, storage, cancellation=cancellation))
    docker = _refuse_triggers(storage, images) or uses_docker_members(text)
    with tempfile.TemporaryDirectory(prefix="dockerfile-", dir=storage.root / "tmp") as folder:
        work = Path(folder)
        _prepare(work, text)
        sandbox = Sandbox.start(
            f"{storage.runroot.name}-{name}",
            view=_view(storage, work),
            holder=HOLDER,
            network=network,
            limits=limits,
            disk=storage.root,
        )
        try:
            entry = sandbox.enter(_arguments(work, sandbox.groups.parent, limits, docker=docker))
            done = processes.run(
                entry.argv,
                env={**storage.environment, **entry.environment, "TMPDIR": str(work / "tmp")},
                timeout=timeout,
                cancellation=cancellation,
                on_output=on_output,
            )
        finally:
            try:
                sandbox.close()
            finally:
                _remove_leftovers(storage, work)
        if done.returncode != 0 or done.timed_out:
            reason = sandbox.last_words()
            raise DockerfileFailed(_explain(done, timeout, limits) + (f"\n{reason}" if reason else ""))
        _refuse_reserved(work)
        image = (work / "image").read_text().strip().removeprefix("sha256:")
    return _finished(storage, image)


def _refuse_reserved(work: Path) -> None:
    """Refuse an image with files that its layer cannot carry."""
    record = work / "tmp" / RESERVED
    noted: dict[str, list[str]] = json.loads(record.read_text()) if record.exists() else {}
    names = sorted({name for left in noted.values() for name in left})
    if names:
        raise DockerfileFailed(
            f"a layer cannot carry files named `.wh.*`, and a RUN of the Dockerfile left {', '.join(names)}"
        )


def _finished(storage: ContainerStorage, image: str) -> str:
    try:
        return storage.finished(image)
    except (ProcessFailed, StorageError) as error:
        raise DockerfileFailed(f"the image {image} that the Dockerfile made cannot be read: {error}") from error


def _prepare(work: Path, text: str) -> None:
    for folder in ("context", "tmp"):
        (work / folder).mkdir()
    (work / "Dockerfile").write_text(text, encoding="utf-8")
    (work / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (work / "group").write_text("root:x:0:\n")
    (work / "seccomp.json").write_text(json.dumps(profile()))
    runtime = work / "runtime"
    runtime.write_text(_RUNTIME_SCRIPT)
    runtime.chmod(0o755)


def _fetch(uses: Iterable[ImageUse], pull: Callable[[str], object]) -> list[str]:
    """Have every image in the storage that a Dockerfile names; give them."""
    images: list[str] = []
    for use in uses:
        if use.image in images:
            continue
        if not _WHOLE_ID.fullmatch(use.image):
            if use.problem:
                raise DockerfileFailed(f"the Dockerfile names the image '{use.image[:80]}': {use.problem}")
            pull(use.image)
        images.append(use.image)
    return images


def _pull(storage: ContainerStorage, image: str, *, cancellation: Cancellation | None) -> None:
    try:
        storage.tool(
            ["buildah", "pull", "--quiet", "--policy=always", image],
            what=f"pulling {image}", timeout=_PULL_SECONDS, cancellation=cancellation,
        )  # fmt: skip
    except ProcessFailed as error:
        words = error.completed.tail(3)
        raise DockerfileFailed(f"the image {image} of the Dockerfile cannot be pulled: {words}") from error


def _refuse_triggers(storage: ContainerStorage, images: Iterable[str]) -> bool:
    """Refuse images whose ONBUILD triggers take files of other images: they name them in the storage of all.

    buildah runs the triggers of every FROM, here in the sandbox; those of the parent are lines of the text already.
    Gives whether one of the images has what only docker's format keeps.
    """
    docker = False
    for image in images:
        try:
            members = storage.docker_members(image)
        except (ProcessFailed, StorageError) as error:
            raise DockerfileFailed(f"the image {image} of the Dockerfile is not here: {error}") from error
        docker = docker or bool(members)
        for trigger in map(str, members.get("OnBuild", ())):
            try:
                parsed = parse_trigger(trigger)
            except TriggerError as error:
                raise DockerfileFailed(f"the image {image} of the Dockerfile cannot be used: {error}") from error
            if takes_from_images(parsed):
                raise DockerfileFailed(f"the image {image} has the trigger '{trigger}', which names another image")
    return docker


def _arguments(work: Path, group: str, limits: ResourceLimits, *, docker: bool) -> list[str]:
    """`docker`: a health check, a shell or triggers are to be kept, which buildah leaves out of OCI's format."""
    return [
        "buildah", "bud", "--isolation=oci", f"--runtime={work / 'runtime'}", "--network=host",
        f"--format={'docker' if docker else 'oci'}",
        "--layers=false", "--force-rm", "--identity-label=false", "--pull-never",
        f"--cap-drop={','.join(_DROPPED)}",
        f"--security-opt=seccomp={work / 'seccomp.json'}", f"--ulimit=fsize={limits.file_mb * 1024 * 1024}",
        *([f"--cgroup-parent={group}"] if group else []),
        f"--iidfile={work / 'image'}", f"--file={work / 'Dockerfile'}", str(work / "context"),
    ]  # fmt: skip


def _view(storage: ContainerStorage, work: Path) -> View:
    """buildah's world: its storage, its two configuration folders, and nothing else of this machine."""
    binds = [Bind(place, str(place)) for place in _HOST_FILES if place.exists()]
    binds += [Bind(work / file, f"/etc/{file}") for file in ("passwd", "group")]
    binds += program_binds(Path(runtime_program.__file__), _RUNTIME)
    binds += [Bind(place, str(place), writable=True) for place in (storage.root, storage.runroot)]
    return View(tuple(binds), scratch=("/run", "/var"), control_groups=True)


def _remove_leftovers(storage: ContainerStorage, work: Path) -> None:
    """Remove what a buildah that was killed leaves: working containers and runc's control groups.

    The path of the system call profile marks the containers of this build: buildah gives them names of its own.
    """
    marker = str(work / "seccomp.json")
    for record in storage.root.glob("*-containers/*/userdata/buildah.json"):
        try:
            builder = json.loads(record.read_text())
        except (OSError, ValueError):
            continue
        if (builder.get("CommonBuildOpts") or {}).get("SeccompProfilePath") == marker:
            # what cannot be removed now goes with the next sweep; it must not hide how the build ended
            with contextlib.suppress(ProcessFailed):
                storage.remove(builder["container-name"])
    _remove_runtime_groups(work)


def sweep_dockerfile_builds(storage: ContainerStorage) -> None:
    """Remove the control groups of builds whose server was killed; call before the storage's own sweep."""
    for work in (storage.root / "tmp").glob("dockerfile-*"):
        _remove_runtime_groups(work)


def _remove_runtime_groups(work: Path) -> None:
    """runc's groups are named after buildah's bundle folders, and nobody else removes them after a kill."""
    for bundle in (work / "tmp").glob("buildah*"):
        ControlGroups(find_groups(f"buildah-{bundle.name}".__eq__), ()).remove()


def _explain(done: processes.Completed, timeout: float, limits: ResourceLimits) -> str:
    output = (done.stdout + b"\n" + done.stderr).decode(errors="replace")
    steps = _STEP.findall(done.stdout.decode(errors="replace"))
    ending = f"was stopped after {timeout:.0f} s" if done.timed_out else "failed"
    place = f"the Dockerfile instruction '{steps[-1][:200]}'" if steps else "the Dockerfile"
    tail = "\n".join(line for line in output.splitlines() if line.strip() and not _STEP.match(line))
    last = "\n".join(tail.splitlines()[-_TAIL_LINES:])
    # runc and buildah need threads too; what they print without any is long, and says nothing of the limit
    bound = f"\nThe limit of {limits.processes} processes was reached." if _NO_PROCESS in output.lower() else ""
    return f"{place} {ending}{bound}\nLast output:\n{last}"
