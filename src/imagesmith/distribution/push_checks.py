"""What is wrong with a push before anything is sent: its names, and the layout that it reads."""

from __future__ import annotations

import json
import re
from typing import Final

from imagesmith.distribution.push_request import AttemptFailure, Push
from imagesmith.values.repositories import COMPONENT, MOST_CHARACTERS, repository_problem, tag_problem

_MAX_INDEX: Final = 16 * 1024 * 1024
_HOST: Final = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
_REGISTRY: Final = re.compile(rf"({_HOST})((?:/{COMPONENT})*)/?")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


def name_problem(push: Push) -> AttemptFailure | None:
    """A problem with the names of a push, found before anything is sent."""
    found = _REGISTRY.fullmatch(push.registry.url)
    hint = "correct the name: registries are host[:port][/path], repositories and paths are lower case"
    if found is None:
        return _refused(f"registry {push.registry.url!r} is not host[:port][/path]", hint)
    host = found[1]
    if not (set(".:") & set(host) or host == "localhost"):
        # skopeo would read such a first part as a user of Docker Hub and send the image there.
        return _refused(f"registry host {host!r} has no dot and no port", f"write {host}:443")
    too_long = len(found[2]) + len(push.repository) > MOST_CHARACTERS
    if repository_problem(push.repository) or too_long:
        return _refused(f"repository {push.repository!r} is not a repository name", hint)
    if not push.tags:
        return _refused("no tag was given", "name at least one tag")
    for tag in push.tags:
        if tag_problem(tag):
            return _refused(
                f"tag {tag!r} is not a tag", "use 1 to 128 letters, digits, '_', '.', '-'; not '.' or '-' first"
            )
    if not _DIGEST.fullmatch(push.digest):
        return _refused(f"{push.digest!r} is not a digest", "use sha256: and 64 hex digits")
    return None


def _refused(output: str, hint: str) -> AttemptFailure:
    return AttemptFailure(doing="checking names", output=output, permanent=True, hint=hint)


def layout_problem(push: Push) -> AttemptFailure | None:
    """A problem if the layout does not have this digest under this name."""
    doing, hint = (
        f"reading the OCI layout {push.layout}",
        "build the image again; its layout is damaged or was moved",
    )
    try:
        with (push.layout / "index.json").open("rb") as file:
            index = json.loads(file.read(_MAX_INDEX))
        named = [
            entry["digest"]
            for entry in index["manifests"]
            if (entry.get("annotations") or {}).get("org.opencontainers.image.ref.name") == push.reference
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return AttemptFailure(doing, f"{type(error).__name__}: {error}", True, hint)
    if named != [push.digest]:
        return AttemptFailure(
            doing, f"name {push.reference!r} is {named or 'absent'}, not {push.digest}", True, hint
        )
    return None
