"""Each action in a real container: a document goes in, the file tree and the outputs come out.

    golden/<case>/component.yml    what runs
    golden/<case>/expected.json    results of its steps, and everything below /golden in the container afterwards

`IMAGESMITH_GOLDEN=write pytest tests/components/test_golden.py` writes the expectations anew. The cases that need
packages run on the managed Debian base: tests/managed/test_golden_on_debian.py.
"""

from __future__ import annotations

import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.components.services import S3Config, Services
from imagesmith.instances.container import ContainerInstance
from testing.containers import make_tiny_root
from testing.golden import ON_DEBIAN, check_golden, golden_cases
from testing.object_store import object_store

CASES = [case for case in golden_cases() if case not in ON_DEBIAN]
MORE_TOOLS = ("chown", "md5sum", "sha1sum", "sha256sum", "sha512sum")


class Web(http.server.BaseHTTPRequestHandler):
    """Serves one line at every path."""

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "9")
        self.end_headers()
        self.wfile.write(b"from web\n")


@pytest.fixture(scope="session")
def golden_image(container_storage: ContainerStorage) -> str:
    """The tiny image with the few tools that some actions need beyond it."""
    container_storage.create("golden", "scratch")
    try:
        root = container_storage.mount("golden")
        make_tiny_root(root)
        for tool in MORE_TOOLS:
            shutil.copy(Path(shutil.which(tool) or tool).resolve(), root / "usr/bin" / tool)
        for library in ("libcrypto.so.3",):
            for place in Path("/usr/lib").glob(f"*/{library}"):
                target = root / str(place).lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(place, target)
        return container_storage.commit("golden", created_by="golden")
    finally:
        container_storage.remove("golden")


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Config]:
    with object_store("golden") as client:
        for key in ("in/one", "in/sub/two"):
            client.put_object(Bucket="golden", Key=key, Body=f"object {key}\n".encode())
        yield S3Config(client.meta.endpoint_url, "us-east-1", "a", "b")


@pytest.mark.tool
@pytest.mark.parametrize("case", CASES)
def test_golden(
    case: str, golden_image: str, container_storage: ContainerStorage, web: str, s3: S3Config, tmp_path: Path
) -> None:
    """The container ends as the fixture says."""
    instance = ContainerInstance.launch(
        container_storage, golden_image, name=f"golden-{case.lower()}", network="none"
    )
    try:
        services = Services(s3=s3, loopback_downloads=True, proxies={}, scratch=tmp_path)
        check_golden(case, instance, {"Web": web}, services)
    finally:
        instance.close()
    assert list(tmp_path.iterdir()) == []
