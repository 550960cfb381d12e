"""A private container storage and a tiny image made of this machine's own shell and tools."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from imagesmith.artifacts.layout import OciLayout
from imagesmith.artifacts.storage import SCRATCH, ContainerStorage
from imagesmith.instances.container import ContainerInstance
from imagesmith.trees import remove_tree

TOOLS = (
    "sh", "bash", "cat", "chmod", "chown", "chroot", "cp", "cut", "dd", "env", "grep", "head", "id", "kill", "ln",
    "ls", "mkdir", "mknod", "mount", "mv", "nohup", "nsenter", "pwd", "readlink", "rm", "rmdir", "sed", "setsid",
    "sleep", "sort", "stat", "tail", "test", "touch", "tr", "true", "umount", "uname", "unshare", "wc", "yes",
)  # fmt: skip


def make_tiny_root(root: Path) -> None:
    """A root file system with a shell, common tools and their libraries, some 15 MB."""
    for folder in ("etc", "root", "usr/bin", "usr/lib", "usr/lib64", "var/lib"):
        (root / folder).mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    (root / "etc/os-release").write_text('ID=tiny\nNAME="Tiny"\nVERSION_ID="1"\nPRETTY_NAME="Tiny 1"\n')
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    for tool in TOOLS:
        found = shutil.which(tool, path="/usr/bin:/usr/sbin:/bin:/sbin")
        assert found, f"this machine has no {tool}"
        target = root / "usr/bin" / tool
        shutil.copy(Path(found).resolve(), target)
        for library in libraries_of(Path(found)):
            place = root / str(library).lstrip("/").replace("lib", "usr/lib", 1).replace("usr/usr/", "usr/", 1)
            if not place.exists():
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(library.resolve(), place)


def libraries_of(program: Path) -> list[Path]:
    """The shared libraries of a program of this machine, its loader included."""
    listed = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False).stdout
    return [Path(found) for found in re.findall(r"(/\S+) \(0x", listed)]


@contextmanager
def opened_storage(folder: Path) -> Iterator[ContainerStorage]:
    """A storage in a folder; unmounted and removed at the end: pytest cannot remove the deepest of its folders."""
    storage = ContainerStorage.open(folder / "root")
    try:
        yield storage
    finally:
        storage.close()
        remove_tree(folder / "root")


def import_tiny_image(storage: ContainerStorage) -> str:
    """Make the tiny image in a storage."""
    storage.create("tiny", SCRATCH)
    try:
        make_tiny_root(storage.mount("tiny"))
        bare = storage.commit("tiny", created_by="tiny")
        document = dict(storage.image_config(bare))
        document["config"] = {"Env": ["TINY=yes"], "Labels": {"tiny": "1"}, "Cmd": ["/bin/sh"]}
        image = storage.make_image(json.dumps(document).encode(), bare)
        storage.remove_image(bare)
        return image
    finally:
        storage.remove("tiny")


def with_config(storage: ContainerStorage, image: str, **members: object) -> str:
    """An image with the same layers and other members of `config`; returns its id."""
    document: dict[str, Any] = dict(storage.image_config(image))
    document["config"] = {**(document.get("config") or {}), **members}
    return storage.make_image(json.dumps(document).encode(), image)


def exported(storage: ContainerStorage, image: str, folder: Path) -> str:
    """Write an image as a layout into a folder; returns its name for skopeo."""
    OciLayout(folder).export_image(storage, image, "image")
    return f"oci:{folder}:image"


Launch = Callable[..., ContainerInstance]
"""Starts a container; its options are those of ContainerInstance.launch()."""
