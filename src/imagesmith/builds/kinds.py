"""The table of the kinds of image."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from imagesmith.builds.container_build import ContainerBuild
from imagesmith.builds.kind import BuildKind
from imagesmith.builds.machine_build import MachineBuild
from imagesmith.recipes.plan import BuildPlan

KINDS: Final = MappingProxyType[str, BuildKind]({"container": ContainerBuild(), "machine": MachineBuild()})


def build_kind(plan: BuildPlan) -> BuildKind:
    """The kind of a plan's image."""
    return KINDS[plan.kind]
