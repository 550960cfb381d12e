"""Building a Dockerfile with buildah inside a sandbox of its own.

    Sandbox (outer)   buildah; its storage, its configuration, an empty build context; no host, no loopback of it
      runc            one container per RUN: own processes and mounts, our capabilities and system call filter

Isolation is `oci` and not `chroot`, though a RUN costs some 100 ms more: under `chroot` a RUN shares the process
namespace with buildah's helpers, and through /proc/1/root sees the layers of every other build; it also gets
every device node of /dev that buildah sees.
"""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from imagesmith import processes
from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.instances.bubblewrap import Bind, View
from imagesmith.instances.limits import ControlGroups, Limits, find_groups
from imagesmith.instances.network import NetworkKind
from imagesmith.instances.protocol import InstanceError
from imagesmith.instances.sandbox import HOLDER, Sandbox
from imagesmith.instances.seccomp import profile
from imagesmith.processes import Cancellation, OnOutput, ProcessFailed
from imagesmith.recipes.dockerfile import images_of
from imagesmith.recipes.references import Use, takes_from_images

_STEP = re.compile(r"(?:\[\d+/\d+\] )?STEP \d+/\d+: (.*)")
_TAIL_LINES = 12
_PULL_SECONDS = 3600.0
_WHOLE_ID = re.compile(r"[0-9a-f]{64}")
_HOST_FILES = (Path("/etc/containers"), Path("/etc/ssl/certs"))
"""What buildah itself reads: the pull policy and the certificates of registries."""

_DROPPED = ("CAP_NET_BIND_SERVICE", "CAP_SETPCAP", "CAP_MKNOD", "CAP_NET_RAW", "CAP_AUDIT_WRITE")
"""What buildah would grant beyond the capabilities of a component instance."""


class DockerfileFailed(InstanceError):
    """An instruction failed; the text names it and has its last output."""


def build_dockerfile(
    storage: ContainerStorage,
    text: str,
    *,
    name: str,
    limits: Limits,
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
    images = _fetch(images_of(text), pull or partial(_pull, storage, cancellation=cancellation))
    _refuse_triggers(storage, images)
    with tempfile.TemporaryDirectory(prefix="dockerfile-", dir=storage.root / "tmp") as folder:
        work = Path(folder)
        _prepare(work, text)
        sandbox = Sandbox.start(
            f"{storage.runroot.name}-{name}",
            view=_view(storage, work),
            holder=HOLDER,
            holder_capabilities=True,
            network=network,
            limits=limits,
            disk=storage.root,
        )
        try:
            entry = sandbox.enter(_arguments(work, sandbox.groups.parent, limits))
            done = processes.run(
                entry.argv,
                env={**storage.environment, **entry.environment, "TMPDIR": str(work / "tmp")},
                timeout=timeout,
                cancellation=cancellation,
                on_output=on_output,
            )
        finally:
            sandbox.close()
            _remove_leftovers(storage, work)
        if done.returncode != 0 or done.timed_out:
            reason = sandbox.last_words()
            raise DockerfileFailed(_explain(done, timeout) + (f"\n{reason}" if reason else ""))
        return (work / "image").read_text().strip().removeprefix("sha256:")


def _prepare(work: Path, text: str) -> None:
    for folder in ("context", "tmp"):
        (work / folder).mkdir()
    (work / "Dockerfile").write_text(text, encoding="utf-8")
    (work / "passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (work / "group").write_text("root:x:0:\n")
    (work / "seccomp.json").write_text(json.dumps(profile()))


def _fetch(uses: Iterable[Use], pull: Callable[[str], object]) -> list[str]:
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


def _refuse_triggers(storage: ContainerStorage, images: Iterable[str]) -> None:
    """Refuse images whose ONBUILD triggers take files of other images: they name them in the storage of all."""
    for image in images:
        try:
            done = storage.tool(["buildah", "inspect", "--type=image", image], what=f"reading {image}")
        except ProcessFailed as error:
            raise DockerfileFailed(f"the image {image} of the Dockerfile is not here: {error}") from error
        for trigger in (json.loads(done.stdout).get("Docker") or {}).get("config", {}).get("OnBuild") or []:
            if takes_from_images(f"ONBUILD {trigger}"):
                raise DockerfileFailed(f"the image {image} has the trigger '{trigger}', which names another image")


def _arguments(work: Path, group: str, limits: Limits) -> list[str]:
    return [
        "buildah", "bud", "--isolation=oci", "--runtime=runc", "--network=host", "--format=oci",
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


def _explain(done: processes.Completed, timeout: float) -> str:
    output = (done.stdout + b"\n" + done.stderr).decode(errors="replace")
    steps = _STEP.findall(done.stdout.decode(errors="replace"))
    ending = f"was stopped after {timeout:.0f} s" if done.timed_out else "failed"
    place = f"the Dockerfile instruction '{steps[-1][:200]}'" if steps else "the Dockerfile"
    tail = "\n".join(line for line in output.splitlines() if line.strip() and not _STEP.match(line))
    last = "\n".join(tail.splitlines()[-_TAIL_LINES:])
    return f"{place} {ending}\nLast output:\n{last}"
