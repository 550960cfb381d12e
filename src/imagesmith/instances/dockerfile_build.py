"""Building a Dockerfile with buildah inside a sandbox of its own.

buildah runs in the outer namespaces (its own processes, mounts and network, no way to the host's loopback) and
sees the storage and an empty build context; each RUN is a runc container inside those namespaces, so what a
Dockerfile runs sees neither buildah, nor the data directory, nor anything else of this machine.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from imagesmith import processes
from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.instances.limits import Limits
from imagesmith.instances.protocol import InstanceError
from imagesmith.instances.sandbox import Bind, Sandbox
from imagesmith.processes import Cancellation, OnOutput

_STEP = re.compile(r"STEP \d+/\d+: (.*)")
_TAIL_LINES = 12


class DockerfileFailed(InstanceError):
    """An instruction failed; the text names it and has its last output."""


def build_dockerfile(
    storage: ContainerStorage,
    text: str,
    *,
    name: str,
    limits: Limits,
    timeout: float,
    cancellation: Cancellation | None = None,
    on_output: OnOutput | None = None,
    pull_options: Sequence[str] = (),
) -> str:
    """Build a Dockerfile whose FROM may be an id of the storage; gives the image id.

    `timeout` is in seconds, for the whole build. Raises DockerfileFailed, InstanceError, Cancelled.
    """
    with tempfile.TemporaryDirectory(prefix="dockerfile-", dir=storage.root / "tmp") as folder:
        work = Path(folder)
        (work / "context").mkdir()
        (work / "Dockerfile").write_text(text, encoding="utf-8")
        sandbox = Sandbox.start(
            name,
            binds=[Bind(place, str(place), writable=True) for place in (storage.root, storage.runroot)],
            holder=["sh", "-c", "read _"],
            holder_capabilities=True,
            network="outbound",
            limits=limits,
        )
        try:
            argv = [
                "buildah", "bud", "--isolation=oci", "--runtime=runc", "--network=host", "--format=oci",
                "--layers=false", "--force-rm", "--identity-label=false", *pull_options,
                f"--iidfile={work / 'image'}", f"--file={work / 'Dockerfile'}", str(work / "context"),
            ]  # fmt: skip
            entry = sandbox.enter(argv)
            done = processes.run(
                entry.argv,
                env={**storage.environment, **entry.environment},
                timeout=timeout,
                cancellation=cancellation,
                on_output=on_output,
            )
        finally:
            sandbox.close()
        if done.returncode != 0 or done.timed_out:
            raise DockerfileFailed(_explain(done, timeout))
        return (work / "image").read_text().strip().removeprefix("sha256:")


def _explain(done: processes.Completed, timeout: float) -> str:
    output = (done.stdout + b"\n" + done.stderr).decode(errors="replace")
    steps = _STEP.findall(done.stdout.decode(errors="replace"))
    ending = f"was stopped after {timeout:.0f} s" if done.timed_out else "failed"
    place = f"the Dockerfile instruction '{steps[-1][:200]}'" if steps else "the Dockerfile"
    tail = "\n".join(line for line in output.splitlines() if line.strip() and not _STEP.match(line))
    last = "\n".join(tail.splitlines()[-_TAIL_LINES:])
    return f"{place} {ending}\nLast output:\n{last}"
