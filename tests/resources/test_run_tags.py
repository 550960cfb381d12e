"""What a run is asked for by tags."""

from __future__ import annotations

import pytest

from imagesmith.resources.errors import ApiError
from imagesmith.resources.run_tags import (
    CACHE,
    NETWORK,
    NO_BOOT,
    NO_CACHE,
    REPRODUCIBLE,
    RunTags,
    parse_run_tags,
    with_recipe_tags,
)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({}, RunTags()),
        ({CACHE: "30m"}, RunTags(1800.0)),
        ({CACHE: "24h", "team": "web"}, RunTags(86400.0)),
        ({CACHE: "7d", NO_BOOT: "false"}, RunTags(7 * 86400.0)),
        ({NO_BOOT: "true"}, RunTags(0.0, no_boot=True)),
        ({NO_CACHE: "true"}, RunTags(0.0, no_cache=True)),
        ({NO_BOOT: "true", REPRODUCIBLE: "true"}, RunTags(no_boot=True, reproducible="true")),
        ({REPRODUCIBLE: "false"}, RunTags(reproducible="false")),
    ],
)
def test_wishes_are_read(tags: dict[str, str], expected: RunTags) -> None:
    """An age with its unit, and true or false; other tags mean nothing."""
    assert parse_run_tags(tags, container=False) == expected


@pytest.mark.parametrize(
    ("tags", "container", "words"),
    [
        ({CACHE: "0h"}, False, "imagesmith:cache is '0h': expected an age such as 30m"),
        ({CACHE: "1w"}, False, "imagesmith:cache is '1w'"),
        ({NO_BOOT: "yes"}, False, "imagesmith:no-boot is 'yes': expected true or false"),
        ({CACHE: "1h", NO_BOOT: "true"}, False, "cannot be combined"),
        ({NO_CACHE: "1"}, True, "imagesmith:no-cache is '1': expected true or false"),
        ({CACHE: "1h", NO_CACHE: "true"}, True, "cannot be combined"),
        ({NETWORK: "host"}, True, "imagesmith:network is 'host': expected none or outbound"),
        ({NETWORK: "none"}, False, "it is about containers"),
        ({NO_BOOT: "true"}, True, "it is about machines"),
        ({REPRODUCIBLE: "yes"}, True, "imagesmith:reproducible is 'yes': expected true, false or the seconds"),
        ({REPRODUCIBLE: ""}, True, "imagesmith:reproducible is ''"),
        ({REPRODUCIBLE: "-1"}, True, "imagesmith:reproducible is '-1'"),
        ({REPRODUCIBLE: "1e9"}, True, "imagesmith:reproducible is '1e9'"),
        ({REPRODUCIBLE: "100000000000"}, True, "imagesmith:reproducible is '100000000000'"),
        ({REPRODUCIBLE: "true"}, False, "a machine writes other bytes at every boot: add the tag"),
        ({REPRODUCIBLE: "0", NO_BOOT: "false"}, False, "add the tag imagesmith:no-boot"),
    ],
)
def test_a_tag_that_means_nothing_is_refused(tags: dict[str, str], container: bool, words: str) -> None:
    """The run does not start as if it had not been said."""
    with pytest.raises(ApiError, match=words):
        parse_run_tags(tags, container=container)


@pytest.mark.parametrize(
    ("run", "recipe", "expected"),
    [
        ({}, {CACHE: "1h", "team": "web", NO_BOOT: "true"}, {CACHE: "1h"}),
        ({"team": "ops"}, {NO_CACHE: "true"}, {NO_CACHE: "true", "team": "ops"}),
        ({NO_CACHE: "true"}, {CACHE: "1h"}, {NO_CACHE: "true"}),
        ({CACHE: "2h"}, {CACHE: "1h"}, {CACHE: "2h"}),
        ({CACHE: "2h"}, {NETWORK: "none"}, {CACHE: "2h", NETWORK: "none"}),
        ({NETWORK: "outbound"}, {NETWORK: "none"}, {NETWORK: "outbound"}),
        ({NO_CACHE: "false"}, {NO_CACHE: "true"}, {NO_CACHE: "false"}),
        ({}, {REPRODUCIBLE: "1"}, {REPRODUCIBLE: "1"}),
        ({REPRODUCIBLE: "false"}, {REPRODUCIBLE: "true"}, {REPRODUCIBLE: "false"}),
    ],
)
def test_tags_of_a_recipe_count_where_the_run_has_none(
    run: dict[str, str], recipe: dict[str, str], expected: dict[str, str]
) -> None:
    """Whoever starts a run has the last word."""
    assert dict(with_recipe_tags(run, recipe, container=True)) == expected


def test_an_image_recipe_can_say_that_it_boots_nothing() -> None:
    """Of its tags those about machines count, and none about containers."""
    recipe = {NO_BOOT: "true", REPRODUCIBLE: "true", NETWORK: "none", CACHE: "1h", "team": "web"}
    assert dict(with_recipe_tags({}, recipe, container=False)) == {NO_BOOT: "true", REPRODUCIBLE: "true"}
