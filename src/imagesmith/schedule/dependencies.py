"""The inputs of a build, and which of them changed since (spec/pipelines.md 4).

| Reference in the recipe                 | counts as an update when                        |
|-----------------------------------------|-------------------------------------------------|
| ARN with a wildcard or without build    | it resolves to a higher version or build        |
| `ssm:` parameter                        | the value differs                               |
| container tag                           | the digest differs, and the switch is on        |
| fixed build, AMI id, digest             | never                                           |
| the recipe itself                       | it is another recipe version than the baseline's |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from imagesmith.values.arn import Arn, ArnError
from imagesmith.values.version import Version, VersionPattern

Role = Literal["base", "component"]


@dataclass(frozen=True)
class Dependency:
    """A base or component: `reference` as written in the recipe, `resolved` as used by a build.

    `resolved` is a build ARN, an AMI id, a digest `sha256:...` or the value of a parameter.
    """

    role: Role
    reference: str
    resolved: str


@dataclass(frozen=True)
class Inputs:
    """All resolved references of a build; recorded with each image as the baseline of the next build."""

    recipe: str
    """ARN of the recipe version, without wildcards."""
    dependencies: tuple[Dependency, ...]


@dataclass(frozen=True)
class Change:
    """One update, as written in the pipeline log: `base debian-12 1.0.3/2 -> 1.0.4/1`."""

    role: Literal["recipe", "base", "component"]
    name: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.role} {self.name} {self.before} -> {self.after}"


def changed_dependencies(
    baseline: Inputs, current: Inputs, *, container_tag_updates: bool = False
) -> tuple[Change, ...]:
    """All updates since the baseline: the recipe first, then dependencies in the order of the current recipe."""
    changes = _recipe_change(baseline.recipe, current.recipe)
    # Matched by reference, not by position: another recipe version may reorder or drop components. The change of
    # the recipe covers references that only one of the two has.
    before = {(item.role, item.reference): item for item in baseline.dependencies}
    for item in dict.fromkeys(current.dependencies):
        old = before.get((item.role, item.reference))
        if old is not None and _is_update(old, item, container_tag_updates=container_tag_updates):
            changes.append(Change(item.role, _name(item), _state(old), _state(item)))
    return tuple(changes)


def resolves_to(reference: str, image: str) -> bool:
    """Whether a base reference of a recipe can resolve to the image build `image` (ARN), for cascades."""
    wanted, built = _arn(reference), Arn.parse(image)
    if wanted is None or wanted.version is None or built.version is None:
        return False
    if (wanted.partition, wanted.region, wanted.owner, wanted.kind, wanted.slug) != (
        built.partition, built.region, built.owner, built.kind, built.slug,
    ):  # fmt: skip
        return False
    fits = VersionPattern.parse(wanted.version).matches(Version.parse(built.version))
    return fits and wanted.build in (None, "x", built.build)


def _recipe_change(before: str, after: str) -> list[Change]:
    old, new = Arn.parse(before), Arn.parse(after)
    if (old.kind, old.slug, _ordering(old)) == (new.kind, new.slug, _ordering(new)):
        return []
    label = str(new.version) if new.slug == old.slug else f"{new.slug} {new.version}"
    return [Change("recipe", old.slug, str(old.version), label)]


def _is_update(old: Dependency, new: Dependency, *, container_tag_updates: bool) -> bool:
    if old.resolved == new.resolved:
        return False
    if _arn(new.reference) is not None:
        # After the newest build is deprecated a wildcard resolves to an older one, which is not an update.
        return _ordering(Arn.parse(new.resolved)) > _ordering(Arn.parse(old.resolved))
    if new.reference.startswith("ssm:"):
        return True
    is_tag = new.resolved.startswith("sha256:") and "@" not in new.reference
    return is_tag and container_tag_updates


def _arn(text: str) -> Arn | None:
    try:
        return Arn.parse(text)
    except ArnError:
        return None


def _ordering(arn: Arn) -> tuple[Version, int]:
    return Version.parse(arn.version or ""), int(arn.build or 0)


def _name(item: Dependency) -> str:
    arn = _arn(item.reference)
    return item.reference if arn is None else arn.slug


def _state(item: Dependency) -> str:
    arn = _arn(item.resolved)
    if arn is not None:
        return f"{arn.version}/{arn.build}" if arn.build else str(arn.version)
    return item.resolved[: len("sha256:") + 12] if item.resolved.startswith("sha256:") else item.resolved
