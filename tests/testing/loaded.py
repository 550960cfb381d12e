"""What every server reads at its start and nobody changes: read once for all tests."""

from __future__ import annotations

from functools import cache

from imagesmith.resources import managed
from imagesmith.wire.model import Api


@cache
def service_model() -> Api:
    """The operations that botocore describes."""
    return Api.load()


@cache
def managed_content() -> managed.ManagedContent:
    """What this version ships."""
    return managed.managed_content()
