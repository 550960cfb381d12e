"""Runs the program of COPY and ADD on folders of a test, in this process and without a sandbox."""

from __future__ import annotations

import base64
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagesmith.copying.program.main import answer
from imagesmith.copying.program.roots import RootFolder


@dataclass(frozen=True)
class CopyBench:
    """A source root and a target root."""

    source: Path
    target: Path

    @classmethod
    def make(cls, folder: Path) -> CopyBench:
        bench = cls(folder / "source", folder / "target")
        bench.source.mkdir()
        bench.target.mkdir()
        return bench

    def copy(self, *patterns: str, to: str, text: dict[str, bytes] | None = None, **options: Any) -> dict[str, Any]:
        """The program's answer to `COPY patterns to`; `text` are here-documents by name."""
        documents = [
            {"kind": "text", "name": name, "content": base64.b64encode(content).decode()}
            for name, content in (text or {}).items()
        ]
        limits = {"entries": 10_000, "depth": 100, "size": 10**9, "download": 10**6, "seconds": 60.0}
        request: dict[str, Any] = {
            "sources": [*({"kind": "path", "pattern": pattern} for pattern in patterns), *documents],
            "destination": to, "folder": "/", "chown": "", "chmod": "", "parents": False, "link": False,
            "excludes": [], "unpack": False, "authorities": "", **options,
            "limits": {**limits, **options.get("limits", {})},
        }  # fmt: skip
        source, target = (os.open(root, os.O_PATH | os.O_DIRECTORY) for root in (self.source, self.target))
        mask = os.umask(0)
        try:
            return answer(request, RootFolder(source), RootFolder(target))
        finally:
            os.umask(mask)
            os.close(source)
            os.close(target)

    def copied(self, *patterns: str, to: str, **options: Any) -> list[str]:
        """Copy, which must succeed; returns the paths that are in the target then, folders with a slash."""
        result = self.copy(*patterns, to=to, **options)
        assert "failed" not in result, result
        return paths_in(self.target)

    def failed(self, *patterns: str, to: str, **options: Any) -> str:
        """Copy, which must fail; returns the text."""
        return str(self.copy(*patterns, to=to, **options)["failed"])


def paths_in(root: Path) -> list[str]:
    """Every path below a root, sorted; a folder ends with a slash, a link with its target."""
    found: list[str] = []
    for place, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(place, name)
            text = str(path.relative_to(root))
            if path.is_symlink():
                text += f" -> {path.readlink()}"
            elif path.is_dir():
                text += "/"
            found.append(text)
    return sorted(found)


def described(path: Path) -> dict[str, Any]:
    """All that an image keeps of a file, but its time."""
    status = path.lstat()
    kind = stat.S_IFMT(status.st_mode)
    content: object = None
    if stat.S_ISREG(kind):
        content = path.read_bytes()
    elif stat.S_ISLNK(kind):
        content = str(path.readlink())
    return {
        "kind": kind, "mode": stat.S_IMODE(status.st_mode), "owner": (status.st_uid, status.st_gid),
        "content": content, "device": status.st_rdev,
        "attributes": {name: os.getxattr(path, name, follow_symlinks=False)
                       for name in sorted(os.listxattr(path, follow_symlinks=False))},
    }  # fmt: skip


def tree(root: Path) -> dict[str, dict[str, Any]]:
    """described() for every path below a root."""
    return {
        str(Path(place, name).relative_to(root)): described(Path(place, name))
        for place, folders, files in os.walk(root)
        for name in (*folders, *files)
    }
