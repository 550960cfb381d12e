"""A real docker-registry on a loopback port, a proxy before it that is busy at first, and a tiny OCI layout."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import http.server
import io
import json
import subprocess
import tarfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from testing.network import free_port

USER = "smith"
PASSWORD = "open sesame"
HTPASSWD = f"{USER}:$2y$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW\n"
"""bcrypt of PASSWORD with a fixed salt."""

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


class RunningRegistry:
    """Debian's docker-registry with a folder as its storage; can be stopped, killed and started again."""

    def __init__(self, folder: Path, *, login: bool = False, deletes: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        self._config = folder / "config.yml"
        self._process: subprocess.Popen[bytes] | None = None
        # A push sees the broken connection before kill() has reaped the registry, and may start it again by then.
        self._turn = threading.Lock()
        deleting = "true" if deletes else "false"
        lines = [
            "version: 0.1",
            "log: {level: error}",
            f"storage: {{filesystem: {{rootdirectory: {folder / 'storage'}}}, delete: {{enabled: {deleting}}}}}",
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


class BusyProxy:
    """An HTTP proxy before a registry that first answers `answers`, one a request, and then forwards everything.

    An answer is (status, Retry-After); `busy` tells for which requests, by method and path.
    """

    def __init__(
        self, target: str, answers: list[tuple[int, str]], busy: Callable[[str, str], bool] = lambda *_: True
    ) -> None:
        self.left = list(answers)
        lock = threading.Lock()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(inner) -> None:  # noqa: N805 - the proxy is `self`
                length = int(inner.headers.get("Content-Length") or 0)
                body = inner.rfile.read(length)
                with lock:
                    planned = self.left.pop(0) if self.left and busy(inner.command, inner.path) else None
                if planned is not None:
                    inner.reply(planned[0], {"Retry-After": planned[1]} if planned[1] else {}, b"busy")
                    return
                connection = http.client.HTTPConnection(target, timeout=30)
                if inner.headers.get("Transfer-Encoding") == "chunked":
                    body = inner.chunks()
                connection.putrequest(inner.command, inner.path, skip_host=True, skip_accept_encoding=True)
                for name, value in inner.headers.items():  # a name may come several times
                    if name.lower() not in ("transfer-encoding", "content-length"):
                        connection.putheader(name, value)
                connection.putheader("Content-Length", str(len(body)))
                connection.endheaders(body)
                got = connection.getresponse()
                data = got.read()
                inner.reply(got.status, dict(got.getheaders()), data, got.getheader("Content-Length", ""))
                connection.close()

            def chunks(inner) -> bytes:  # noqa: N805
                data = b""
                while size := int(inner.rfile.readline().split(b";")[0], 16):
                    data += inner.rfile.read(size)
                    inner.rfile.readline()
                inner.rfile.readline()
                return data

            def reply(inner, status: int, headers: dict[str, str], data: bytes, length: str = "") -> None:  # noqa: N805
                inner.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                        inner.send_header(name, value)
                inner.send_header("Content-Length", length or str(len(data)))
                inner.end_headers()
                if inner.command != "HEAD":
                    inner.wfile.write(data)

            do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(30)


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
