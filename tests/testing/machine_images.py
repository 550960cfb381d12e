"""Machine images through the API of a real server, and the disks in its catalog that they begin with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagesmith.artifacts.intact import digest_of_path
from testing.disks import raw_disk
from testing.pipeline_support import REGION, Forge
from testing.workflow_support import ROLE, workflow


def add_disk_file(forge: Forge, disk: Path) -> str:
    """The AMI of a raw disk."""
    return add(forge, disk, kind="blank").ami


def start(forge: Forge, parent: str, *, recipe: Mapping[str, Any] | None = None, **members: object) -> str:
    members_of_recipe: dict[str, Any] = dict(recipe or {})
    members_of_recipe.setdefault("components", [{"componentArn": forge.component(build="true")}])
    arn = forge.client.create_image_recipe(
        name=forge.name("machine"), semanticVersion="1.0.0", parentImage=parent, **members_of_recipe
    )["imageRecipeArn"]
    made = forge.client.create_image(
        imageRecipeArn=arn, infrastructureConfigurationArn=forge.infrastructure(), **members
    )
    return str(made["imageBuildVersionArn"])


ADOPT = {"workflowArn": f"arn:aws:imagebuilder:{REGION}:aws:workflow/distribution/distribute-image/x.x.x"}


REGISTER = """\
name: register
schemaVersion: 1.0
steps:
  - name: Register
    action: RegisterImage
    inputs: %s
outputs:
  - {name: ImageId, value: "$.stepOutputs.Register.imageId"}
"""


@dataclass(frozen=True)
class Base:
    """A disk in the catalog whose root file system is that of a Debian with known vulnerable packages."""

    ami: str
    digest: str

    @property
    def snapshot(self) -> str:
        return f"snap-{self.digest[7:24]}"


def add(forge: Forge, disk: Path, *, kind: str = "debian") -> Base:
    words = ("--checksum", digest_of_path(disk), "--name", forge.name(kind), "--json")
    made = json.loads(forge.server.command("base", "add", str(disk), *words))
    return Base(str(made["amiId"]), str(made["digest"]))


def registering(forge: Forge, inputs: Mapping[str, Any]) -> dict[str, str]:
    return {"workflowArn": workflow(forge, "BUILD", REGISTER % json.dumps(dict(inputs)))}


def root_of(base: Base, **ebs: Any) -> dict[str, Any]:
    return {"blockDeviceMapping": [{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": base.snapshot, **ebs}}]}


def built(forge: Forge, base: Base, *workflows: Mapping[str, str], end: str = "AVAILABLE", **more: Any) -> Any:
    arn = start(forge, base.ami, workflows=list(workflows), executionRole=ROLE, **more)
    return forge.finished(arn, end)


def add_disk(forge: Forge, folder: Path, *, code: bytes, mebibytes: int = 8) -> str:
    """The AMI of a disk whose boot sector begins with `code`, as `imagesmith base add` makes it."""
    disk = bytearray(raw_disk(folder / "blank.raw"))
    disk[: len(code)] = code
    with (folder / "blank.raw").open("wb") as file:
        file.write(disk)
        file.truncate(mebibytes * 1024**2)
    return add_disk_file(forge, folder / "blank.raw")
