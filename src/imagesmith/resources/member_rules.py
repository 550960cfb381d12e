"""Rules between the members of one request (spec/api.md 4.3), which need nothing but the request and the settings.

The table of operations names the rules of each operation. They are checked before the client token is looked up, so
a broken rule is refused whatever the token says (spec/api.md 2.3).
"""

from __future__ import annotations

from collections.abc import Callable

from imagesmith.resources.errors import invalid_combination
from imagesmith.settings import Settings
from imagesmith.values.api import ApiRequest

Rule = Callable[[ApiRequest, Settings], None]
"""Raises ApiError for a request that breaks it."""


def one_source(inline: str, uri: str) -> Rule:
    """A document is in the request or behind a URI, not both."""

    def check(request: ApiRequest, _settings: Settings) -> None:
        if (inline in request) == (uri in request):
            raise invalid_combination(inline, f"You must specify exactly one of {inline} and {uri}.")

    return check


def no_version_with_names(request: ApiRequest, _settings: Settings) -> None:
    """A list by name has no versions to filter."""
    if request.get("byName") and any(entry.get("name") == "version" for entry in request.get("filters", ())):
        raise invalid_combination("filters", "byName cannot be combined with a filter on version.")
