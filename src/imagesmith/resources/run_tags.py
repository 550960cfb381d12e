"""Options of a run as tags of its image, because the API has no members for them.

    imagesmith:cache      greatest age of cached results: `30m`, `24h`, `7d`
    imagesmith:no-boot    `true`: build components run without a machine

Tags of the request (StartImagePipelineExecution, CreateImage) and, for scheduled runs, imageTags of the pipeline.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from imagesmith.resources.errors import ApiError, invalid_request

CACHE: Final = "imagesmith:cache"
NO_BOOT: Final = "imagesmith:no-boot"
_AGE: Final = re.compile(r"([1-9][0-9]{0,3})([mhd])")
_SECONDS: Final = {"m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True)
class RunTags:
    """The options of a run."""

    cache_seconds: float = 0.0
    no_boot: bool = False


def parse_run_tags(tags: Mapping[str, str], *, container: bool) -> RunTags:
    """The options in the tags of an image. Raises ApiError for an invalid value."""
    age, no_boot = tags.get(CACHE, ""), tags.get(NO_BOOT, "false")
    found = _AGE.fullmatch(age)
    if age and found is None:
        raise _refused(CACHE, age, "an age such as 30m, 24h or 7d")
    if no_boot not in ("true", "false"):
        raise _refused(NO_BOOT, no_boot, "true or false")
    if container and (age or no_boot == "true"):
        name = CACHE if age else NO_BOOT
        raise _refused(name, tags[name], "no such tag on a container image: it is about machines")
    if age and no_boot == "true":
        raise invalid_request(f"The tags {CACHE} and {NO_BOOT} cannot be combined: overlays are made by machines.")
    return RunTags(int(found[1]) * _SECONDS[found[2]] if found else 0.0, no_boot == "true")


def _refused(name: str, value: str, expected: str) -> ApiError:
    return invalid_request(f"The tag {name} is '{value}': expected {expected}.")
