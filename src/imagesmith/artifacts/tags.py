"""Resolves tags of registries to the digests of their manifests, without a pull.

A tag may name an index of images for several platforms. A pull then fetches the image for this platform, and pulls
have recorded one digest or the other, so the answer contains both.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagesmith import processes
from imagesmith.artifacts.bases import auth_options
from imagesmith.artifacts.oci import digest_of
from imagesmith.processes import Cancellation, Cancelled
from imagesmith.settings import NoRegistry, Registry

_SECONDS = 20
_AT_ONCE = 8
_MOST_BYTES = 8 * 1024 * 1024
_PLATFORM = {"os": "linux", "architecture": "amd64"}


@dataclass(frozen=True)
class TagState:
    """The digests `sha256:...` of a tag, the image's digest first; or why they are unknown."""

    digests: tuple[str, ...] = ()
    problem: str = ""


LookUpTags = Callable[[Iterable[str]], Mapping[str, TagState]]
"""References -> the current state of each."""


class RegistryTags:
    """Queries the registries; `locate` returns the source of a reference, and its registry of the settings.

    Credentials are in `scratch` during a query (None: the machine's temporary folder).
    """

    def __init__(
        self,
        locate: Callable[[str], tuple[str, Registry | None]],
        *,
        scratch: Path | None = None,
        cancellation: Cancellation | None = None,
    ) -> None:
        self._locate = locate
        self._scratch = scratch
        self._cancellation = cancellation

    def look_up(self, references: Iterable[str]) -> dict[str, TagState]:
        """Query every reference once, several at a time; each takes 20 seconds at most and none raises."""
        wanted = sorted(set(references))
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="tags") as pool:
            return dict(zip(wanted, pool.map(self._look_up, wanted), strict=True))

    def _look_up(self, reference: str) -> TagState:
        scratch = self._scratch if self._scratch is not None and self._scratch.is_dir() else None
        try:
            source, registry = self._locate(reference)
            with auth_options(registry, scratch) as options:
                done = processes.check(
                    ["skopeo", "inspect", "--raw", *options, f"docker://{source}"],
                    what=f"reading the tag {reference}", timeout=_SECONDS, limit=_MOST_BYTES,
                    cancellation=self._cancellation,
                )  # fmt: skip
        except processes.ProcessFailed as error:
            return TagState(problem=f"the tag {reference} cannot be read: {error.completed.tail(2) or 'no answer'}")
        except (OSError, UnicodeDecodeError, NoRegistry) as error:
            return TagState(problem=f"the tag {reference} cannot be read: {error}")
        except Cancelled:
            return TagState(problem=f"the tag {reference} was not read: the server is stopping")
        if done.dropped:
            return TagState(problem=f"the tag {reference} has a manifest of more than {_MOST_BYTES} bytes")
        return TagState((*_platform_digests(done.stdout), digest_of(done.stdout)))


def _platform_digests(manifest: bytes) -> Iterable[str]:
    """The digest of the image for this platform, if the manifest is an index."""
    try:
        document: Any = json.loads(manifest)
        entries = document.get("manifests") or ()
        fitting = [entry["digest"] for entry in entries if _PLATFORM.items() <= entry.get("platform", {}).items()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ()
    return [str(digest) for digest in fitting[:1]]
