"""Checks the names of repositories and tags in requests, before any build."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imagesmith.resources.errors import invalid_value
from imagesmith.values.repositories import repository_problem, tag_problem


def check_repository(path: str, target: Mapping[str, Any]) -> None:
    """Check the repositoryName of `target`, if it has one. Raises ApiError."""
    problem = repository_problem(target["repositoryName"]) if "repositoryName" in target else ""
    if problem:
        raise invalid_value(f"{path}.repositoryName", problem)


def check_tags(path: str, target: Mapping[str, Any]) -> None:
    """Check the containerTags of `target`, if it has any. Raises ApiError."""
    for index, tag in enumerate(target.get("containerTags", ())):
        if problem := tag_problem(tag):
            raise invalid_value(f"{path}.containerTags[{index}]", problem)
