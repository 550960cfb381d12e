"""Each action in a real container: a document goes in, the file tree and the outputs come out.

    golden/<case>/component.yml    what runs
    golden/<case>/expected.json    results of its steps, and everything below /golden in the container afterwards

`IMAGESMITH_GOLDEN=write pytest tests/components/test_golden.py` writes the expectations anew.
"""

from __future__ import annotations

import http.server
import itertools
import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from fixtures_containers import make_tiny_root
from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.components.actions.registry import action_registry
from imagesmith.components.grammar import parse_component
from imagesmith.components.reporting import LineReporter
from imagesmith.components.results import ExecutionResult
from imagesmith.components.runner import DocumentRun, RunOptions, run_documents
from imagesmith.components.services import S3Config, Services, SystemClock
from imagesmith.instances.container import ContainerInstance

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.parent.name for path in GOLDEN.glob("*/component.yml"))
MORE_TOOLS = ("chown", "md5sum", "sha1sum", "sha256sum", "sha512sum")
TREE = r"""
list() {
  for path in "$1"/* "$1"/.[!.]*; do
    if [ -L "$path" ]; then printf '%s\001%s\001' "$path" "link $(readlink "$path")"
    elif [ -d "$path" ]; then printf '%s\001%s\001' "$path" "folder $(stat -c '%a %u:%g' "$path")"; list "$path"
    elif [ -f "$path" ]; then
      printf '%s\001%s\n' "$path" "file $(stat -c '%a %u:%g' "$path")"
      cat "$path"
      printf '\001'
    fi
  done
}
list /golden
"""


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
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    config = S3Config(f"http://{host}:{port}", "us-east-1", "a", "b")
    client = boto3.client(
        "s3",
        endpoint_url=config.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
    )
    client.create_bucket(Bucket="golden")
    for key in ("in/one", "in/sub/two"):
        client.put_object(Bucket="golden", Key=key, Body=f"object {key}\n".encode())
    yield config
    server.stop()


def seen_result(result: ExecutionResult) -> dict[str, Any]:
    """What of a result is the same each time."""
    steps = {}
    for step in result.steps:
        shown: dict[str, Any] = {"status": step.status}
        if step.failure_message:
            shown["message"] = step.failure_message
        if step.outputs:
            shown["outputs"] = [
                {key: value for key, value in item.items() if key != "executionId"} for item in step.outputs
            ]
        steps[step.name] = shown
    return {"status": result.status, "steps": steps}


def seen_tree(instance: ContainerInstance) -> dict[str, str]:
    words = instance.run(("sh", "-c", TREE)).stdout.decode("utf-8", "backslashreplace").split("\001")
    return dict(zip(words[:-1:2], words[1::2], strict=True))


@pytest.mark.tool
@pytest.mark.parametrize("case", CASES)
def test_golden(
    case: str, golden_image: str, container_storage: ContainerStorage, web: str, s3: S3Config, tmp_path: Path
) -> None:
    """The container ends as the fixture says."""
    parsed = parse_component((GOLDEN / case / "component.yml").read_bytes())
    assert parsed.document is not None, parsed.problems
    numbers = itertools.count(1)
    lines: list[str] = []
    instance = ContainerInstance.launch(
        container_storage, golden_image, name=f"golden-{case.lower()}", network="none"
    )
    try:
        instance.run(("mkdir", "/golden"))
        result = run_documents(
            [DocumentRun(parsed.document, "component.yml", {"Web": web})],
            instance,
            clock=SystemClock(),
            ids=lambda: f"id-{next(numbers)}",
            options=RunOptions(
                working_directory="/golden",
                services=Services(s3=s3, loopback_downloads=True, proxies={}, scratch=tmp_path),
            ),
            reporter=LineReporter(lines.append),
        )
        seen = {**seen_result(result), "tree": seen_tree(instance)}
    finally:
        instance.close()
    assert list(tmp_path.iterdir()) == []
    expected = GOLDEN / case / "expected.json"
    if os.environ.get("IMAGESMITH_GOLDEN") == "write":
        expected.write_text(json.dumps(seen, indent=1, ensure_ascii=False) + "\n")
    assert seen == json.loads(expected.read_text()), "\n".join(lines)


def test_every_action_has_a_case() -> None:
    """Every action of Linux is in some golden document; UpdateOS has its own test with a package manager."""
    text = "".join((GOLDEN / case / "component.yml").read_text() for case in CASES)
    missing = [
        name
        for name, action in action_registry().items()
        if "linux" in action.platforms and f"action: {name}\n" not in text
    ]
    assert missing == ["UpdateOS"]
