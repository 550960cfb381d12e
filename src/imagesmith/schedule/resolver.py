"""Resolves the references of the pipelines of one unit of work, once for each set of references.

A batch only adds PENDING images, to which no reference resolves, so results stay valid until its commit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagesmith.resources.call import Call
from imagesmith.resources.resolved_runs import ResolvedRun, resolve_run
from imagesmith.values.names import canonical_json

_REFERENCES = (
    "imageRecipeArn", "containerRecipeArn", "infrastructureConfigurationArn", "distributionConfigurationArn"
)  # fmt: skip
"""Members of a pipeline that runs.resolve_run reads, and its workflows."""


class Resolver:
    """Caches resolutions within the unit of work of its call."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._found: dict[tuple[str | None, ...], ResolvedRun] = {}

    def resolve(self, document: Mapping[str, Any]) -> ResolvedRun:
        """See runs.resolve_run. Raises ApiError."""
        workflows = document.get("workflows")
        key = (*map(document.get, _REFERENCES), canonical_json(workflows) if workflows else None)
        if key not in self._found:
            self._found[key] = resolve_run(self._call, document)
        return self._found[key]
