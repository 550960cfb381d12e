"""What every server reads at its start and nobody changes: read once for all tests."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from imagesmith.resources import managed
from imagesmith.settings import ManagedImage
from imagesmith.wire.model import Api


@cache
def service_model() -> Api:
    """The operations that botocore describes."""
    return Api.load()


@cache
def _shipped() -> managed.ManagedContent:
    return managed.managed_content()


def managed_content(mapping: Mapping[str, ManagedImage] | None = None) -> managed.ManagedContent:
    """What this version ships, with the images of a settings file."""
    return managed.managed_content(mapping) if mapping else _shipped()
