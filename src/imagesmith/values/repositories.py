"""Names of repositories and tags in registries, by the grammar of the OCI distribution specification. Pure."""

from __future__ import annotations

import re

MOST_CHARACTERS = 255
"""Of a repository with the path of its registry."""

COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{COMPONENT}(?:/{COMPONENT})*")
_ECR_HOST = re.compile(r"[0-9]{12}\.dkr[.-]ecr[a-z-]*\.|public\.ecr\.aws(?:/|$)")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


def repository_problem(name: str) -> str:
    """The problem of a repository name; empty when it is valid."""
    if len(name) > MOST_CHARACTERS:
        return f"The name of a repository has {MOST_CHARACTERS} characters at most, and this has {len(name)}."
    if _ECR_HOST.match(name):
        return f"'{name[:80]}' begins with the host of a registry: write the name of the repository alone."
    if not _REPOSITORY.fullmatch(name):
        return (
            f"'{name[:80]}' is not the name of a repository: write lower-case letters and digits, in parts between "
            "'/', and between them one '.', one or two '_', or '-'."
        )
    return ""


def tag_problem(tag: str) -> str:
    """The problem of a tag; empty when it is valid."""
    if _TAG.fullmatch(tag):
        return ""
    return f"'{tag[:80]}' is not a tag: write 1 to 128 letters, digits, '_', '.' and '-', not '.' or '-' first."
