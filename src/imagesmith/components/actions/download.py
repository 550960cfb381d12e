"""WebDownload: fetched, checked and cached on the worker, put into the instance (spec/components.md 10.9)."""

from __future__ import annotations

import hashlib
import os
import posixpath
import shutil
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from types import MappingProxyType
from typing import Final

from imagesmith.components.actions.assertions import InstanceProbe
from imagesmith.components.actions.base import (
    Action,
    ActionContext,
    ActionFailed,
    ActionResult,
    Entry,
    path_argument,
)
from imagesmith.components.actions.shared_inputs import OVERWRITE
from imagesmith.components.actions.transfer import exists, put, scratch_folder
from imagesmith.components.actions.web_transfer import fetch, shown_url
from imagesmith.components.schema import flag, inputs, text

_ALGORITHMS: Final = MappingProxyType({"MD5": "md5", "SHA1": "sha1", "SHA256": "sha256", "SHA512": "sha512"})
_CACHED: Final = frozenset({"sha256", "sha512"})
"""Digests that name one content only; a file in the cache is found by nothing else."""


def actions() -> tuple[Action, ...]:
    return (
        Action(
            "WebDownload",
            "Downloads files over HTTP or HTTPS.",
            inputs(
                {
                    "source": text(
                        "The URL.",
                        minLength=1,
                        pattern=r"(?i)^https?://[^/\s]",
                        expected="an http:// or https:// URL",
                    ),
                    "destination": text("The file, or a folder when it ends with a separator.", minLength=1),
                    "overwrite": OVERWRITE,
                    "checksum": text("The expected digest in hexadecimal."),
                    "algorithm": text("Of the digest.", enum=list(_ALGORITHMS), ignore_case=True),
                    "ignoreCertificateErrors": flag("Do not check the server's certificate.", default=False),
                },
                required=("source", "destination"),
            ),
            web_download,
            shape="list",
            outputs=("destination",),
        ),
    )


def web_download(context: ActionContext, entries: list[Entry]) -> ActionResult:
    """Fetch each entry; the one output is all final paths, joined with newlines."""
    done: list[str] = []
    for entry in entries:
        try:
            done.append(_download(context, entry))
        except ActionFailed as failure:
            failure.outputs = ({"destination": "\n".join(done)},) if done else ()
            raise
    return ActionResult(({"destination": "\n".join(done)},))


def _download(context: ActionContext, entry: Entry) -> str:
    destination = _destination(entry)
    algorithm, checksum = _ALGORITHMS.get(entry.get("algorithm", "").upper(), ""), entry.get("checksum", "").lower()
    verified = bool(algorithm and checksum)
    if not verified and (algorithm or checksum):
        context.note("WebDownload: 'checksum' and 'algorithm' work together only, nothing is verified")
    if not entry["overwrite"] and exists(context, destination):
        raise ActionFailed(f"{destination} exists, and 'overwrite' is false")
    if verified and InstanceProbe(context).file_digest(destination, algorithm) == checksum:
        context.note(f"WebDownload: {destination} already has the expected checksum")
        return destination
    with scratch_folder(context) as folder:
        cached = _cache_place(context, algorithm, checksum) if verified else None
        if cached is not None and cached.is_file():
            put(context, cached, destination)
            return destination
        local = folder / "download"
        fetch(context, entry["source"], local, insecure=entry["ignoreCertificateErrors"])
        if verified:
            _verify(local, algorithm, checksum, entry["source"])
        put(context, local, destination)
        if cached is not None:
            _keep(local, cached)
    return destination


def _destination(entry: Entry) -> str:
    destination = path_argument(entry["destination"])
    if not destination.endswith("/"):
        return destination
    path = urllib.parse.urlsplit(entry["source"]).path
    name = urllib.parse.unquote(posixpath.basename(path))
    if not name or "/" in name or name in (".", "..") or "\0" in name:
        raise ActionFailed(
            f"the URL {shown_url(entry['source'])} ends with no file name; name the file in 'destination'"
        )
    return destination + name


def _verify(local: Path, algorithm: str, checksum: str, source: str) -> None:
    with local.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if found != checksum:
        raise ActionFailed(f"{shown_url(source)} has the {algorithm} checksum {found}, expected {checksum}")


def _cache_place(context: ActionContext, algorithm: str, checksum: str) -> Path | None:
    folder = context.services.download_cache
    if folder is None or algorithm not in _CACHED or not checksum.isalnum():
        return None
    return folder / f"{algorithm}-{checksum}"


def _keep(local: Path, cached: Path) -> None:
    """Move a verified file into the cache; two workers may do so at once, the last one wins with equal bytes."""
    cached.parent.mkdir(parents=True, exist_ok=True)
    partial = cached.with_name(f"{cached.name}.{os.getpid()}.part")
    shutil.copyfile(local, partial)
    partial.replace(cached)
