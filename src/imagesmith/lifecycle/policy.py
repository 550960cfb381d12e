"""A lifecycle policy as types, from the document of the API (spec/api.md 5.5). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from imagesmith.lifecycle.age import Age
from imagesmith.values.arn import slug_of
from imagesmith.values.states import LifecycleAction
from imagesmith.values.version import VersionPattern

IMAGE_TYPES: Final = {"AMI_IMAGE": "AMI", "CONTAINER_IMAGE": "DOCKER"}
"""resourceType of a policy -> type of the images that it selects."""

_ORDER: Final = tuple(LifecycleAction)
"""In which rules apply to an image."""


@dataclass(frozen=True, kw_only=True)
class Include:
    """The outputs of an image that an action extends to."""

    amis: bool = False
    snapshots: bool = False
    containers: bool = False

    @classmethod
    def from_document(cls, data: Mapping[str, Any]) -> Include:
        return cls(**{name: bool(data.get(name)) for name in ("amis", "snapshots", "containers")})


@dataclass(frozen=True, kw_only=True)
class AmiExclusions:
    """The AMIs that an action leaves as they are."""

    public: bool = False
    regions: tuple[str, ...] = ()
    shared_accounts: tuple[str, ...] = ()
    last_launched: Age | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_document(cls, data: Mapping[str, Any]) -> AmiExclusions:
        launched = data.get("lastLaunched")
        return cls(
            public=bool(data.get("isPublic")),
            regions=tuple(data.get("regions", ())),
            shared_accounts=tuple(data.get("sharedAccounts", ())),
            last_launched=Age(launched["value"], launched["unit"]) if launched else None,
            tags=dict(data.get("tagMap", {})),
        )


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One element of policyDetails. `age` is None for a rule that counts."""

    action: LifecycleAction
    age: Age | None
    retained: int
    """How many images of each recipe version stay; 0 for other actions than DELETE."""
    include: Include
    excluded_tags: Mapping[str, str]
    """Of the image: any of the pairs excludes it."""
    excluded_amis: AmiExclusions

    @classmethod
    def from_document(cls, data: Mapping[str, Any]) -> Rule:
        limit, exclusions = data["filter"], data.get("exclusionRules", {})
        by_age, action = limit["type"] == "AGE", LifecycleAction(data["action"]["type"])
        kept = limit.get("retainAtLeast", 0) if by_age else limit["value"]
        return cls(
            action=action,
            age=Age(limit["value"], limit["unit"]) if by_age else None,
            retained=kept if action is LifecycleAction.DELETE else 0,
            include=Include.from_document(data["action"].get("includeResources", {})),
            excluded_tags=dict(exclusions.get("tagMap", {})),
            excluded_amis=AmiExclusions.from_document(exclusions.get("amis", {})),
        )


@dataclass(frozen=True, kw_only=True)
class LifecyclePolicy:
    """A policy: the type of image, the rules in the order of their actions, and the selection."""

    image_type: str
    """`AMI` or `DOCKER`."""
    rules: tuple[Rule, ...]
    recipes: tuple[tuple[str, VersionPattern], ...] = ()
    """Slug and version of recipes; empty: the tags select."""
    tags: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_document(cls, data: Mapping[str, Any]) -> LifecyclePolicy:
        """Read the members of a stored policy, which the operations have checked."""
        selection = data["resourceSelection"]
        rules = [Rule.from_document(item) for item in data["policyDetails"]]
        return cls(
            image_type=IMAGE_TYPES[data["resourceType"]],
            rules=tuple(sorted(rules, key=lambda rule: _ORDER.index(rule.action))),
            recipes=tuple(
                (slug_of(item["name"]), VersionPattern.for_reading(item["semanticVersion"]))
                for item in selection.get("recipes", ())
            ),
            tags=dict(selection.get("tagMap", {})),
        )


def shares_a_pair(wanted: Mapping[str, str], tags: Mapping[str, str]) -> bool:
    """Whether one of the wanted pairs is among the tags, key and value."""
    return any(tags.get(key) == value for key, value in wanted.items())
