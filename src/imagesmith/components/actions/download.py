"""WebDownload: fetched, checked and cached on the worker, put into the instance (spec/components.md 10.9)."""

from __future__ import annotations

import hashlib
import posixpath
import re
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
    TypedInputs,
    path_argument,
)
from imagesmith.components.actions.shared_inputs import OVERWRITE
from imagesmith.components.actions.transfer import exists, put, scratch_folder
from imagesmith.components.actions.web_transfer import fetch, printable_url
from imagesmith.components.schema import flag, inputs, of_warning, text
from imagesmith.documents.nodes import MapNode, Node, ScalarNode
from imagesmith.documents.references import find_references
from imagesmith.files import written_atomically
from imagesmith.values.diagnostics import Problem

_ALGORITHMS: Final = MappingProxyType({"MD5": "md5", "SHA1": "sha1", "SHA256": "sha256", "SHA512": "sha512"})
_DIGITS: Final = MappingProxyType({"MD5": 32, "SHA1": 40, "SHA256": 64, "SHA512": 128})
_HEXADECIMAL: Final = re.compile(r"[0-9A-Fa-f]+")
_CACHED: Final = frozenset({"sha256", "sha512"})
"""Collision-resistant digests, the only keys of files in the cache."""


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
            check=_check_digest,
        ),
    )


def _check_digest(node: Node, problems: list[Problem], subject: str) -> None:
    """A digest without its algorithm, or the reverse, verifies nothing; a malformed one never matches."""
    if not isinstance(node, MapNode):
        return
    checksum, algorithm = node.get("checksum"), node.get("algorithm")
    if (checksum is None) != (algorithm is None):
        given, other = ("checksum", "algorithm") if algorithm is None else ("algorithm", "checksum")
        message = f"{of_warning(subject)} '{given}' without '{other}': nothing is verified"
        hint = "add the digest that the file must have"
        if algorithm is None:
            hint = _likely_algorithm(checksum, otherwise="add the 'algorithm' of the digest, or remove 'checksum'")
        problems.append(
            Problem(
                code="unverified-download",
                message=message,
                position=(checksum or algorithm or node).position,
                hint=hint,
                severity="warning",
            )
        )
    if not isinstance(checksum, ScalarNode) or not isinstance(algorithm, ScalarNode):
        return
    digits = _DIGITS.get(algorithm.text.upper())
    if digits is None or next(find_references(checksum.text), None) is not None:
        return
    if len(checksum.text) != digits or not _HEXADECIMAL.fullmatch(checksum.text):
        message = f"{subject} 'checksum' can never match: {algorithm.text.upper()} has {digits} hexadecimal digits"
        problems.append(Problem("wrong-value", message, checksum.position, _likely_algorithm(checksum)))


def _likely_algorithm(checksum: Node | None, *, otherwise: str = "write the digits only") -> str:
    text = checksum.text if isinstance(checksum, ScalarNode) else ""
    found = [name for name, digits in _DIGITS.items() if len(text) == digits and _HEXADECIMAL.fullmatch(text)]
    return f"a digest of this length has 'algorithm: {found[0]}'" if found else otherwise


def web_download(context: ActionContext, entries: list[TypedInputs]) -> ActionResult:
    """Fetch each entry; the one output is all final paths, joined with newlines."""
    done: list[str] = []
    for entry in entries:
        try:
            done.append(_download(context, entry))
        except ActionFailed as failure:
            failure.outputs = ({"destination": "\n".join(done)},) if done else ()
            raise
    return ActionResult(({"destination": "\n".join(done)},))


def _download(context: ActionContext, entry: TypedInputs) -> str:
    destination = _destination(entry)
    algorithm, checksum = _ALGORITHMS.get(entry.get("algorithm", "").upper(), ""), entry.get("checksum", "").lower()
    verified = bool(algorithm and checksum)
    if not verified and (algorithm or checksum):
        context.note("WebDownload: 'checksum' and 'algorithm' must be set together; nothing is verified")
    if not entry["overwrite"] and exists(context, destination):
        raise ActionFailed(f"{destination} exists, and 'overwrite' is false")
    if verified and InstanceProbe(context).file_digest(destination, algorithm) == checksum:
        context.note(f"WebDownload: {destination} already has the expected checksum")
        return destination
    with scratch_folder(context) as folder:
        cached = _cache_path(context, algorithm, checksum) if verified else None
        if cached is not None and cached.is_file():
            put(context, cached, destination)
            return destination
        local = folder / "download"
        fetch(context, entry["source"], local, insecure=entry["ignoreCertificateErrors"])
        if verified:
            _verify(local, algorithm, checksum, entry["source"])
        put(context, local, destination)
        if cached is not None:
            _cache(local, cached)
    return destination


def _destination(entry: TypedInputs) -> str:
    destination = path_argument(entry["destination"])
    if not destination.endswith("/"):
        return destination
    path = urllib.parse.urlsplit(entry["source"]).path
    name = urllib.parse.unquote(posixpath.basename(path))
    if not name or "/" in name or name in (".", "..") or "\0" in name:
        raise ActionFailed(
            f"the URL {printable_url(entry['source'])} has no file name at its end; name the file in 'destination'"
        )
    return destination + name


def _verify(local: Path, algorithm: str, checksum: str, source: str) -> None:
    with local.open("rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if found != checksum:
        raise ActionFailed(f"{printable_url(source)} has the {algorithm} checksum {found}, expected {checksum}")


def _cache_path(context: ActionContext, algorithm: str, checksum: str) -> Path | None:
    folder = context.services.download_cache
    if folder is None or algorithm not in _CACHED or not checksum.isalnum():
        return None
    return folder / f"{algorithm}-{checksum}"


def _cache(local: Path, cached: Path) -> None:
    """Move a verified file into the cache; of two workers at once the last one wins, with equal bytes."""
    cached.parent.mkdir(parents=True, exist_ok=True)
    with written_atomically(cached) as draft:
        shutil.copyfile(local, draft)
