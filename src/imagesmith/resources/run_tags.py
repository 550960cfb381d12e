"""Options of a run as tags of its image, because the API has no members for them.

    imagesmith:cache      greatest age of cached results: `30m`, `24h`, `7d`; components are cached as well
    imagesmith:no-cache   `true`: a container build takes nothing from earlier builds
    imagesmith:network    `none`: the instances and instructions of a container build have no network
    imagesmith:no-boot    `true`: build components run without a machine
    imagesmith:reproducible
                          `true`, `false`, or the seconds of SOURCE_DATE_EPOCH: every build makes the same bytes

Tags of the request (StartImagePipelineExecution, CreateImage) and, for scheduled runs, imageTags of the pipeline.
Those about the cache and the network can be tags of a container recipe, too, `imagesmith:no-boot` can be one of an
image recipe, and `imagesmith:reproducible` one of both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from imagesmith.recipes.reproducible import OFF, is_wish
from imagesmith.resources.errors import ApiError, invalid_request

CACHE: Final = "imagesmith:cache"
NO_CACHE: Final = "imagesmith:no-cache"
NETWORK: Final = "imagesmith:network"
NO_BOOT: Final = "imagesmith:no-boot"
REPRODUCIBLE: Final = "imagesmith:reproducible"
_OF_CACHE: Final = (CACHE, NO_CACHE)
_NETWORKS: Final = ("outbound", "none")
_AGE: Final = re.compile(r"([1-9][0-9]{0,3})([mhd])")
_SECONDS: Final = {"m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class RunTags:
    """The options of a run."""

    cache_seconds: float = 0.0
    """0: not given."""
    no_cache: bool = False
    no_boot: bool = False
    network: str = "outbound"
    reproducible: str = ""
    """The value of the tag; empty: not given."""


def parse_run_tags(tags: Mapping[str, str], *, container: bool) -> RunTags:
    """The options in the tags of an image. Raises ApiError for an invalid value."""
    age, no_boot, no_cache = tags.get(CACHE, ""), tags.get(NO_BOOT, "false"), tags.get(NO_CACHE, "false")
    found = _AGE.fullmatch(age)
    if age and found is None:
        raise _refused(CACHE, age, "an age such as 30m, 24h or 7d")
    for name, value in ((NO_BOOT, no_boot), (NO_CACHE, no_cache)):
        if value not in ("true", "false"):
            raise _refused(name, value, "true or false")
    network = tags.get(NETWORK, "outbound")
    if network not in _NETWORKS:
        raise _refused(NETWORK, network, "none or outbound")
    if not container and network == "none":
        raise _refused(NETWORK, network, "no such tag on a machine image: it is about containers")
    if container and no_boot == "true":
        raise _refused(NO_BOOT, no_boot, "no such tag on a container image: it is about machines")
    if age and no_cache == "true":
        raise invalid_request(f"The tags {CACHE} and {NO_CACHE} cannot be combined: one of them uses the cache.")
    if age and no_boot == "true":
        raise invalid_request(f"The tags {CACHE} and {NO_BOOT} cannot be combined: overlays are made by machines.")
    reproducible = tags.get(REPRODUCIBLE, "")
    if REPRODUCIBLE in tags and not is_wish(reproducible):
        raise _refused(REPRODUCIBLE, reproducible, "true, false or the seconds of SOURCE_DATE_EPOCH")
    if reproducible not in ("", OFF) and not container and no_boot != "true":
        raise invalid_request(
            f"The tag {REPRODUCIBLE} is '{reproducible}', and a machine writes other bytes at every boot: "
            f"add the tag {NO_BOOT} with the value true."
        )
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0.0
    return RunTags(
        cache_seconds=seconds, no_cache=no_cache == "true", no_boot=no_boot == "true", network=network,
        reproducible=reproducible,
    )  # fmt: skip


def with_recipe_tags(tags: Mapping[str, str], recipe: Mapping[str, str], *, container: bool) -> Mapping[str, str]:
    """The tags of a run; those that a recipe of its kind can have count where the run has none."""
    cache = () if any(name in tags for name in _OF_CACHE) else _OF_CACHE
    names = [REPRODUCIBLE, *((NETWORK, *cache) if container else (NO_BOOT,))]
    return {**{name: recipe[name] for name in names if name in recipe}, **tags}


def _refused(name: str, value: str, expected: str) -> ApiError:
    return invalid_request(f"The tag {name} is '{value}': expected {expected}.")
