"""Amazon Resource Names of this service, and the slug of a name (spec/api.md 3.1, 3.2).

arn:<partition>:imagebuilder:<region>:<owner>:<type>/<path>
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final, Literal

VersionedKind = Literal["image-recipe", "container-recipe", "component", "image", "workflow"]

VERSIONED: Final = frozenset({"image-recipe", "container-recipe", "component", "image", "workflow"})
"""Types whose path has a version."""

BUILDS: Final = frozenset({"component", "image", "workflow"})
"""Types whose path may also have a build number."""

RESOURCE_NAMES: Final[dict[str, str]] = {
    "image-pipeline": "ImagePipeline",
    "infrastructure-configuration": "InfrastructureConfiguration",
    "distribution-configuration": "DistributionConfiguration",
    "lifecycle-policy": "LifecyclePolicy",
    "image-recipe": "ImageRecipe",
    "container-recipe": "ContainerRecipe",
    "component": "Component",
    "image": "Image",
    "workflow": "Workflow",
}
"""ARN type -> the name that error messages use (spec/api.md 2.3)."""


_KEPT: Final = 2048
"""Most parsed ARNs in the cache."""


class ArnError(ValueError):
    """A text that is not an ARN of this service."""


def slug_of(name: str) -> str:
    """`My Image_v2` -> `my-image-v2`."""
    return name.lower().replace(" ", "-").replace("_", "-")


@dataclass(frozen=True)
class Arn:
    """A parsed ARN. `version` and `build` keep the original text, wildcards included."""

    partition: str
    region: str
    owner: str
    kind: str
    slug: str
    version: str | None = None
    build: str | None = None
    family: str | None = None
    """The first path segment of a workflow: build, test or distribution."""

    def __str__(self) -> str:
        path = [self.kind, *([self.family] if self.family else []), self.slug]
        path += [part for part in (self.version, self.build) if part is not None]
        return f"arn:{self.partition}:imagebuilder:{self.region}:{self.owner}:{'/'.join(path)}"

    @classmethod
    def parse(cls, text: str) -> Arn:
        """Read an ARN; the request model has checked its characters already. Raises ArnError."""
        return _read(text)

    @property
    def scope(self) -> str:
        """The lock of a unit of work on resources of this account and Region."""
        return f"{self.owner}/{self.region}"

    @property
    def has_wildcard(self) -> bool:
        return "x" in (self.version or "").split(".") or self.build == "x"

    @property
    def path(self) -> str:
        """The short form for people: `web/1.0.0/1`, and of a workflow `build/web/1.0.0/1`."""
        return "/".join(part for part in (self.family, self.slug, self.version, self.build) if part is not None)

    @property
    def without_build(self) -> Arn:
        return replace(self, build=None)

    def with_version(self, version: str, build: int | None = None) -> Arn:
        return replace(self, version=version, build=None if build is None else str(build))

    def latest_references(self) -> dict[str, str]:
        """The four `latestVersionReferences` of a versioned resource (spec/api.md 3.6)."""
        major, minor, _ = (self.version or "0.0.0").split(".")
        name = {"x.x.x": "latestVersionArn", f"{major}.x.x": "latestMajorVersionArn"}
        name |= {f"{major}.{minor}.x": "latestMinorVersionArn", self.version or "": "latestPatchVersionArn"}
        return {member: str(self.with_version(version)) for version, member in name.items()}


@lru_cache(maxsize=_KEPT)
def _read(text: str) -> Arn:
    # a request uses the same few several times, and the next one uses them again
    pieces = text.split(":")
    if len(pieces) != 6 or pieces[0] != "arn" or pieces[2] != "imagebuilder":
        raise ArnError(f"{text} is not an ARN of this service")
    _, partition, _, region, owner, path = pieces
    kind, *rest = path.split("/")
    if kind not in RESOURCE_NAMES:
        raise ArnError(f"{text} names an unknown type of resource: {kind}")
    family = rest.pop(0) if kind == "workflow" and rest else None
    longest = 3 if kind in BUILDS else 2 if kind in VERSIONED else 1
    if not 1 <= len(rest) <= longest or "" in rest or (kind in VERSIONED and len(rest) == 1):
        raise ArnError(f"{text} has a path that does not fit {kind}")
    return Arn(
        partition=partition, region=region, owner=owner, kind=kind, slug=rest[0],
        version=rest[1] if len(rest) > 1 else None,
        build=rest[2] if len(rest) > 2 else None,
        family=family,
    )  # fmt: skip
