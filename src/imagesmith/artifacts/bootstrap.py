"""Makes a Debian root file system from a package mirror, as the one layer of an image.

    mmdebstrap (own namespaces: of users too; works in memory when there is enough) --> layer.tar
      --> blob and configuration in the storage

A kill at any moment ends every process and mount; the tar is in the caller's work folder.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from imagesmith import processes
from imagesmith.artifacts.mirrors import Mirrors
from imagesmith.artifacts.namespace_entry import entered
from imagesmith.artifacts.oci import Configuration
from imagesmith.artifacts.rootfs import Root
from imagesmith.artifacts.storage import ContainerStorage, reported
from imagesmith.files import PRIVATE
from imagesmith.layers.records import LayerBlob
from imagesmith.layers.store import GZIP_LAYER
from imagesmith.managed.bases import ManagedBase
from imagesmith.namespaces.build_namespace import BuildNamespace
from imagesmith.processes import Cancellation, Completed, OnOutput
from imagesmith.streams import LineJoiner, Stream
from imagesmith.values.names import iso_instant

_LONGEST_LINE = 64 * 1024
_SECONDS = 1800.0
_MEMORY_NEEDED = {"container": 2 * 1024**3, "machine": 4 * 1024**3}
"""Bytes that must be free to work in memory; the work takes at most three quarters of them, usually a quarter."""

_MERGED_USR = Path("/usr/share/mmdebstrap/hooks/merged-usr")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# "$1" is the mount point of the tmpfs, "$2" its size.
_IN_MEMORY = 'mount -t tmpfs -o mode=0755,size="$2" none "$1" || exit 1; shift 2; exec "$@"'

# "$1" is the new root: removes all traces of this machine and of this moment.
_FINISH = """#!/bin/sh
set -eu
rm -f "$1/etc/resolv.conf" "$1/etc/hostname" "$1/etc/dpkg/dpkg.cfg.d/99mmdebstrap" "$1/var/lib/dbus/machine-id"
rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap" "$1/var/log/bootstrap.log" "$1"/var/cache/ldconfig/aux-cache
rm -f "$1"/var/log/*.log "$1"/var/log/apt/* "$1"/var/cache/debconf/*-old "$1"/var/lib/dpkg/*-old
: >"$1/etc/machine-id"
cp -a "$IMAGESMITH_FILES/." "$1/"
"""


def bootstrap(
    base: ManagedBase,
    mirrors: Mirrors,
    work: Path,
    *,
    environment: Mapping[str, str],
    on_output: OnOutput,
    cancellation: Cancellation | None = None,
    finish: str = "",
    namespace: BuildNamespace | None = None,
) -> Completed:
    """Run mmdebstrap, which writes `layer.tar` into the empty folder `work`; the caller explains a failure.

    `environment` is passed to the tools; `finish` is our script that runs at the end, "$1" is the new root.
    With a namespace, no script of a package is root outside. Raises Cancelled, OSError.
    """
    _write_files(base, work / "files")
    hook = work / "finish"
    # Removed at the end: as an option of dpkg it would make mmdebstrap filter every package through a program.
    hook.write_text(_FINISH + finish + "".join(f'rm -rf -- "$1"{pattern}\n' for pattern in base.excluded))
    hook.chmod(0o700)
    (work / "memory").mkdir()
    with entered(namespace, work) as entry:
        inside = entry.folder
        argv = _arguments(base, mirrors, inside, inside / hook.name)
        memory, needed = inside / "memory", _MEMORY_NEEDED[base.kind]
        if free_memory() >= needed:
            argv = ["sh", "-c", _IN_MEMORY, "in-memory", str(memory), f"{needed // 4 * 3 // 1024**2}m", *argv]
        moment = {} if mirrors.snapshot is None else {"SOURCE_DATE_EPOCH": str(mirrors.snapshot)}
        variables = {**environment, **moment, "TMPDIR": str(memory), "IMAGESMITH_FILES": str(inside / "files")}
        return processes.run(
            [*entry.argv, *argv], env=variables, timeout=_SECONDS, cancellation=cancellation, on_output=on_output,
            tree=True, pass_fds=entry.descriptors,
        )  # fmt: skip


def keep_base(
    storage: ContainerStorage, base: ManagedBase, work: Path, *, created: datetime,
    cancellation: Cancellation | None = None,
) -> str:  # fmt: skip
    """Keep `layer.tar` as an image of the storage; returns its id. Raises StorageError, Cancelled."""
    blob = work / "layer.gz"
    # the scripts of packages could write in the folder, so no link of theirs is followed
    with reported("compressing the base"), Root(work) as root, blob.open("xb") as target:
        with os.fdopen(root.open_regular("layer.tar"), "rb") as source:
            made = storage.compress(source, target, cancellation=cancellation)
        blob.chmod(PRIVATE)
    layer = LayerBlob(made.diff_id, made.digest, made.blob_size, GZIP_LAYER)
    return storage.adopt(_config(base, made.diff_id, created), [(layer, blob)])


def line_reader(on_line: Callable[[str], None]) -> OnOutput:
    """Pass whole lines of both streams on."""
    joiner = LineJoiner(_LONGEST_LINE)

    def receive(stream: Stream, chunk: bytes) -> None:
        for line in joiner.add(stream, chunk):
            on_line(line.decode(errors="replace").rstrip("\r"))

    return receive


def _arguments(base: ManagedBase, mirrors: Mirrors, work: Path, hook: Path) -> Sequence[str]:
    # With /usr merged before the first package, no package is needed (and no Perl) that would merge it later.
    merged = [f"--hook-dir={_MERGED_USR}"] if _MERGED_USR.is_dir() else []
    packages = ["usr-is-merged"] if merged else []
    # A container's base has its own policy about starting services, which mmdebstrap would remove.
    # A machine's machine-id is written at the end of its own script, and mmdebstrap would empty it after that.
    kept = ["--skip=chroot/policy-rc.d" if base.kind == "container" else "--skip=cleanup/reproducible"]
    return [
        "mmdebstrap", "--variant=minbase", "--mode=root", "--format=tar", f"--architectures={base.architecture}",
        f"--include={','.join([*packages, *base.packages])}", '--aptopt=Apt::Install-Recommends "false"',
        *kept, "--dpkgopt=force-unsafe-io", *merged, f"--customize-hook={hook}",
        base.suite, str(work / "layer.tar"),
        *mirrors.sources(base.suite, base.components),
    ]  # fmt: skip


def _write_files(base: ManagedBase, folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o755)
    for file in base.files:
        target = folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(file.text)
        target.chmod(file.mode)
    if base.excluded:
        rules = folder / "etc/dpkg/dpkg.cfg.d/excluded"
        rules.parent.mkdir(parents=True, exist_ok=True)
        rules.write_text("".join(f"path-exclude={pattern}\n" for pattern in base.excluded))
    for path in folder.rglob("*"):
        if stat.S_ISDIR(path.lstat().st_mode):
            path.chmod(0o755)


def _config(base: ManagedBase, diff_id: str, created: datetime) -> bytes:
    moment = iso_instant(created)
    document: Configuration = {
        "created": moment,
        "architecture": base.architecture,
        "os": "linux",
        # no labels: every image built on this one would inherit them, and they would be wrong there
        "config": {"Env": [f"PATH={_PATH}"], "Cmd": ["/bin/bash"]},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": moment, "created_by": f"mmdebstrap {base.suite}"}],
    }
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def free_memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 0
