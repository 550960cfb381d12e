"""What tags of registries mean now: the digests of their manifests, without pulling anything.

A tag may name an index of images for several platforms. What a pull then takes is the image for this platform, and
pulls have recorded one digest or the other, so both belong to the answer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagesmith import processes
from imagesmith.artifacts.bases import auth_options
from imagesmith.processes import Cancellation, Cancelled
from imagesmith.settings import Registry

_SECONDS = 20
_AT_ONCE = 8
_MOST_BYTES = 8 * 1024 * 1024
_PLATFORM = {"os": "linux", "architecture": "amd64"}


@dataclass(frozen=True)
class TagState:
    """The digests `sha256:...` that a tag stands for, that of the image first; or why they are not known."""

    digests: tuple[str, ...] = ()
    problem: str = ""


LookUpTags = Callable[[Iterable[str]], Mapping[str, TagState]]
"""References -> what each means now."""


class RegistryTags:
    """Asks the registries; `registry_at` gives the one of the settings that a reference is on, for its credentials.

    Credentials lie in `scratch` while a question runs (None: the machine's temporary folder).
    """

    def __init__(
        self,
        registry_at: Callable[[str], Registry | None],
        *,
        scratch: Path | None = None,
        cancellation: Cancellation | None = None,
    ) -> None:
        self._registry_at = registry_at
        self._scratch = scratch
        self._cancellation = cancellation

    def look_up(self, references: Iterable[str]) -> dict[str, TagState]:
        """Every reference once, several at a time; each takes 20 seconds at most and none raises."""
        wanted = sorted(set(references))
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="tags") as pool:
            return dict(zip(wanted, pool.map(self._look_up, wanted), strict=True))

    def _look_up(self, reference: str) -> TagState:
        scratch = self._scratch if self._scratch is not None and self._scratch.is_dir() else None
        try:
            with auth_options(self._registry_at(reference), scratch) as options:
                done = processes.check(
                    ["skopeo", "inspect", "--raw", *options, f"docker://{reference}"],
                    what=f"reading the tag {reference}", timeout=_SECONDS, limit=_MOST_BYTES,
                    cancellation=self._cancellation,
                )  # fmt: skip
        except processes.ProcessFailed as error:
            return TagState(problem=f"the tag {reference} cannot be read: {error.completed.tail(2) or 'no answer'}")
        except (OSError, UnicodeDecodeError) as error:
            return TagState(problem=f"the tag {reference} cannot be read: {error}")
        except Cancelled:
            return TagState(problem=f"the tag {reference} was not read: the server is closing")
        if done.dropped:
            return TagState(problem=f"the tag {reference} has a manifest of more than {_MOST_BYTES} bytes")
        return TagState((*_of_platform(done.stdout), f"sha256:{hashlib.sha256(done.stdout).hexdigest()}"))


def _of_platform(manifest: bytes) -> Iterable[str]:
    """The digest of the image for this platform, when the manifest is an index."""
    try:
        document: Any = json.loads(manifest)
        entries = document.get("manifests") or ()
        fitting = [entry["digest"] for entry in entries if _PLATFORM.items() <= entry.get("platform", {}).items()]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return ()
    return [str(digest) for digest in fitting[:1]]
