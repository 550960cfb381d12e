"""A real docker-registry on a loopback port, a proxy before it that breaks on purpose, and a tiny OCI layout."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import socket
import subprocess
import tarfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from support import free_port

USER = "smith"
PASSWORD = "open sesame"
HTPASSWD = f"{USER}:$2y$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW\n"
"""bcrypt of PASSWORD with a fixed salt."""

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


class RunningRegistry:
    """Debian's docker-registry with a folder as its storage; can be stopped, killed and started again."""

    def __init__(self, folder: Path, *, login: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        self._config = folder / "config.yml"
        self._process: subprocess.Popen[bytes] | None = None
        # A push sees the broken connection before kill() has reaped the registry, and may start it again by then.
        self._turn = threading.Lock()
        lines = [
            "version: 0.1",
            "log: {level: error}",
            f"storage: {{filesystem: {{rootdirectory: {folder / 'storage'}}}}}",
            f"http: {{addr: '{self.host}'}}",
        ]
        if login:
            (folder / "htpasswd").write_text(HTPASSWD)
            lines.append(f"auth: {{htpasswd: {{realm: test, path: {folder / 'htpasswd'}}}}}")
        self._config.write_text("\n".join(lines) + "\n")

    def start(self) -> None:
        with self._turn:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", str(self._config)],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            self._await(self._process)

    def kill(self) -> None:
        with self._turn:
            if self._process is not None:
                self._process.kill()
                self._process.wait(30)
                self._process = None

    def _await(self, process: subprocess.Popen[bytes]) -> None:
        for _ in range(200):
            if process.poll() is not None:
                raise RuntimeError(f"docker-registry ended at once with {process.returncode}")
            try:
                with urllib.request.urlopen(f"http://{self.host}/v2/", timeout=5):
                    return
            except urllib.error.HTTPError as answer:
                answer.close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("docker-registry did not answer within 10 seconds")

    def get(self, path: str) -> bytes:
        request = urllib.request.Request(f"http://{self.host}{path}", headers={"Accept": _MANIFEST})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return bytes(answer.read())


class ManifestGate:
    """A proxy that forwards every connection, and calls `hook` when a manifest is about to be stored.

    The connection of that manifest is dropped after the hook; `hook` gets how many manifests came so far.
    """

    def __init__(self, target: int, hook: Callable[[int], bool]) -> None:
        self._target = target
        self._hook = hook
        self._seen = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._server.getsockname()[1]}"
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._accepting.join(30)
        for end in self._sockets:
            _shut(end)
        for thread in self._threads:
            thread.join(30)
        for end in self._sockets:
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            self._sockets.append(client)
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                _shut(client)
                continue
            self._sockets.append(server)
            for source, sink, watched in ((client, server, True), (server, client, False)):
                thread = threading.Thread(target=self._forward, args=(source, sink, watched))
                self._threads.append(thread)
                thread.start()

    def _forward(self, source: socket.socket, sink: socket.socket, watched: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                head = data.split(b"\r\n", 1)[0]
                if watched and head.startswith(b"PUT ") and b"/manifests/" in head:
                    self._seen += 1
                    if not self._hook(self._seen):
                        break
                sink.sendall(data)
        _shut(source)
        _shut(sink)


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


def write_layout(folder: Path, reference: str, *, content: bytes = b"hello") -> str:
    """An OCI layout with one image of one file, written by hand; the digest of its manifest."""
    blobs = folder / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)

    def put(data: bytes, kind: str) -> dict[str, object]:
        name = hashlib.sha256(data).hexdigest()
        (blobs / name).write_bytes(data)
        return {"mediaType": kind, "digest": f"sha256:{name}", "size": len(data)}

    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo("hello")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    difference = f"sha256:{hashlib.sha256(archive.getvalue()).hexdigest()}"
    layer = put(gzip.compress(archive.getvalue(), mtime=0), _LAYER)
    config = {
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [difference]},
    }  # fmt: skip
    manifest = {
        "schemaVersion": 2, "mediaType": _MANIFEST,
        "config": put(json.dumps(config).encode(), _CONFIG), "layers": [layer],
    }  # fmt: skip
    descriptor = put(json.dumps(manifest).encode(), _MANIFEST)
    entry = {**descriptor, "annotations": {"org.opencontainers.image.ref.name": reference}}
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    return str(descriptor["digest"])
