"""Every action module by its name (spec/components.md 10.1)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MappingProxyType

from imagesmith.components.actions import (
    assertions,
    document,
    download,
    execute,
    files,
    folders,
    ownership,
    reboot,
    s3,
    update_os,
    windows,
)
from imagesmith.components.actions.base import Action


@functools.cache
def action_registry() -> Mapping[str, Action]:
    """Name -> action, in the order of the reference page. The mapping cannot be changed."""
    modules = (
        assertions,
        execute,
        document,
        update_os,
        reboot,
        s3,
        download,
        files,
        folders,
        ownership,
        windows,
    )
    return MappingProxyType({action.name: action for module in modules for action in module.actions()})
