"""The annotations of a built image's manifest, in the names of the OCI.

    base.name, base.digest       the parent: its name only if it is one of a registry, its manifest's digest
    created                      as in the image's configuration
    source, revision, version    labels that this image's Dockerfile set

A label that was inherited is not taken: it says where the parent came from, and would be wrong of this image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from imagesmith.recipes.plan import BuildPlan

_OCI: Final = "org.opencontainers.image."
_OWN: Final = tuple(f"{_OCI}{name}" for name in ("source", "revision", "version", "title", "licenses", "vendor"))
_MOST: Final = 1024


def image_annotations(
    plan: BuildPlan, parent_digest: str, config: Mapping[str, Any], parent_config: Mapping[str, Any] | None
) -> Mapping[str, str]:
    """The annotations of an image with these configurations of its own and of its parent, if that is known."""
    found = {f"{_OCI}base.name": plan.parent.reference} if plan.parent.kind == "registry" else {}
    if parent_digest:
        found[f"{_OCI}base.digest"] = parent_digest
    if config.get("created"):
        found[f"{_OCI}created"] = str(config["created"])
    own, inherited = _labels(config), _labels(parent_config or {})
    for name in _OWN:
        value = own.get(name)
        if isinstance(value, str) and value and len(value) <= _MOST and value != inherited.get(name):
            found[name] = value
    return found


def _labels(config: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = config.get("config")
    labels = inner.get("Labels") if isinstance(inner, dict) else None
    return labels if isinstance(labels, dict) else {}
