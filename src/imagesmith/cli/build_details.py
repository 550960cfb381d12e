"""What the API does not have about a build: digest, size, times. Read from the database."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from imagesmith.cli.store import has_store, opened_store
from imagesmith.settings import Settings
from imagesmith.store import inventories, stored_builds
from imagesmith.store.build_outcome import BuildOutcome


@dataclass(frozen=True)
class BuildDetails:
    """Empty members: unknown (yet)."""

    digest: str = ""
    size: int = 0
    packages: int = 0
    stages: Mapping[str, float] = field(default_factory=dict)
    """Stage -> seconds."""

    def to_json(self) -> Mapping[str, Any]:
        return asdict(self)


def read_details(settings: Settings, image_arn: str) -> BuildDetails:
    """What the database of the data directory holds; nothing where the server's data is elsewhere.

    Raises CommandFailed.
    """
    if not has_store(settings):
        return BuildDetails()
    with opened_store(settings) as tx:
        build = stored_builds.get_build(tx, image_arn)
        packages = inventories.get_inventory(tx, image_arn)
    outcome = build.outcome if build else BuildOutcome()
    return BuildDetails(
        digest=outcome.digest,
        size=outcome.size,
        packages=len(packages or ()),
        stages=outcome.stages,
    )
