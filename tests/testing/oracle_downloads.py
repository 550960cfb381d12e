"""What the ADD lines of the corpus fetch: a table of replies, served where each builder finds it."""

from __future__ import annotations

import gzip
import io
import socket
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from imagesmith.copying.copier import FileCopier
from imagesmith.instances.network import listen_inside
from testing.file_server import Reply, serving

_PORT: Final = 8099
HOME: Final = f"http://127.0.0.1:{_PORT}"
"""The address in the rows."""
_FILE: Final = b"a file\n"


def _archive() -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, mode, content in (("in/one", 0o640, b"one\n"), ("two", 0o755, b"two\n")):
            member = tarfile.TarInfo(name)
            member.mode, member.uid, member.gid, member.size = mode, 7, 8, len(content)
            tar.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "two"
        tar.addfile(link)
    return gzip.compress(made.getvalue(), mtime=0)


def _replies() -> Mapping[str, Reply]:
    return {
        "/file": Reply(_FILE, headers={"Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}),
        "/sub/other.txt": Reply(b"another file\n"),
        "/query.txt?a=b": Reply(b"asked\n"),
        "/archive.tar.gz": Reply(_archive()),
        "/moved": Reply(status="302 Found", headers={"Location": "/file"}),
        "/": Reply(b"the root\n"),
    }


@contextmanager
def served_to_buildah(text: str) -> Iterator[str]:
    """Serve on the loopback of this machine, where buildah fetches; yields the text with its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    with serving(listener, _replies()):
        yield text.replace(HOME, f"http://127.0.0.1:{listener.getsockname()[1]}")


@contextmanager
def served_to(copier: FileCopier) -> Iterator[None]:
    """Serve on the loopback of the copier's own network."""
    namespace = copier.start("outbound").namespace("net")
    with serving(listen_inside(namespace, "127.0.0.1", _PORT), _replies()):
        yield
