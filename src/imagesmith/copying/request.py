"""What one COPY or ADD asks for, and what came of it. Pure.

Texts are those of the instruction after variables were replaced. Sources keep the order of the instruction, so
that a failure can name the token that it is about by its index.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_MIB: Final = 1024 * 1024
_GIB: Final = 1024 * _MIB


@dataclass(frozen=True)
class PathSource:
    """A path or pattern in the source root; its base is the root, whatever the working folder is."""

    pattern: str


@dataclass(frozen=True)
class TextSource:
    """A here-document: a file with this content, named as its delimiter."""

    name: str
    content: bytes


@dataclass(frozen=True)
class UrlSource:
    """A file of ADD that is downloaded, through the network of a sandbox."""

    url: str
    checksum: str = ""
    """`sha256:` and 64 digits, or empty."""


CopySource = PathSource | TextSource | UrlSource


@dataclass(frozen=True, kw_only=True)
class CopyRequest:
    """One COPY or ADD."""

    sources: tuple[CopySource, ...]
    destination: str
    """As written; a relative one begins at `folder`. A slash at its end means a folder."""
    folder: str = "/"
    """The working folder (WORKDIR) of the target."""
    chown: str = ""
    """`user[:group]`, by names of the target's /etc/passwd and /etc/group or by numbers. Empty: files from a root
    keep their owners, all others are root's."""
    chmod: str = ""
    """Octal or symbolic (`u=rwX,go-w`). Empty: modes are kept; here-documents get 0644, downloads 0600."""
    parents: bool = False
    """Keep the folders above each source; those before `/./` are left out."""
    link: bool = False
    """Make the folders of the destination anew instead of following the links in its path."""
    excludes: tuple[str, ...] = ()
    """Patterns of paths that are left out."""
    unpack: bool | None = None
    """`--unpack` of ADD: whether a download is unpacked. None: it is not, as in Docker."""


@dataclass(frozen=True, kw_only=True)
class CopyLimits:
    """Bounds of one COPY or ADD; more is a failure that names the bound."""

    entries: int = 2_000_000
    depth: int = 512
    """Folders inside each other."""
    size: int = 64 * _GIB
    """Bytes of all files together."""
    download: int = 8 * _GIB
    """Bytes of one download."""
    seconds: float = 3600.0


@dataclass(frozen=True)
class DownloadedFile:
    """What a URL returned, for provenance and the log."""

    url: str
    sha256: str
    size: int


@dataclass(frozen=True)
class CopyResult:
    """What a copy wrote."""

    entries: int
    """Files, folders, links and devices that were written."""
    size: int
    """Bytes of the files among them."""
    downloads: tuple[DownloadedFile, ...] = ()
    unmatched: tuple[int, ...] = ()
    """Indexes of patterns that matched nothing, which is no failure, as in Docker: worth a line in the log."""


class CopyFailed(RuntimeError):
    """A COPY or ADD that cannot be carried out, in words: what failed, with which input, what to try.

    `source` is the index in `CopyRequest.sources` that it is about, or None when it is about the whole.
    """

    def __init__(self, message: str, source: int | None = None) -> None:
        super().__init__(message)
        self.source = source
