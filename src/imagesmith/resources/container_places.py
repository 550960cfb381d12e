"""Checks the names of repositories and tags in requests, before any build."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagesmith.resources.errors import invalid_value
from imagesmith.values.repositories import repository_problem, tag_problem


def check_repository(path: str, place: Mapping[str, Any]) -> None:
    """Check the repositoryName of `place`, if it has one. Raises ApiError."""
    problem = repository_problem(place["repositoryName"]) if "repositoryName" in place else ""
    if problem:
        raise invalid_value(f"{path}.repositoryName", problem)


def check_tags(path: str, place: Mapping[str, Any]) -> None:
    """Check the containerTags of `place`, if it has any. Raises ApiError."""
    for index, tag in enumerate(place.get("containerTags", ())):
        if problem := tag_problem(tag):
            raise invalid_value(f"{path}.containerTags[{index}]", problem)
