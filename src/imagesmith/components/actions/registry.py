"""Every action module by its name (spec/components.md 10.1)."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MappingProxyType

from imagesmith.components.actions import assertions, document, execute, files, folders, reboot, update_os
from imagesmith.components.actions.base import Action


@functools.cache
def action_registry() -> Mapping[str, Action]:
    """Name -> action, in the order of the reference page. The mapping cannot be changed."""
    modules = (assertions, execute, document, update_os, reboot, files, folders)
    return MappingProxyType({action.name: action for module in modules for action in module.actions()})
