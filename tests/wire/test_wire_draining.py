"""Stopping a server: new requests are refused while the running ones finish."""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys

import pytest

PROGRAM = """
import sys, threading, time, uuid
from datetime import UTC, datetime
from pathlib import Path
from imagesmith.settings import Settings
from imagesmith.wire.create import create_app
from imagesmith.accounts.keys import KeyRing
from imagesmith.wire.server import serve

class Slow:
    operations = frozenset({"ListImagePipelines"})
    short_reads = short_changes = changes = frozenset()
    def call(self, operation, caller, request):
        print("called", flush=True)
        sys.stdin.readline()
        return {}

app = create_app(Slow(), keys=KeyRing([]), settings=Settings(data_dir=Path("."), auth="none"),
                 clock=lambda: datetime.now(UTC), ids=lambda: str(uuid.uuid4()))
serve(app, "127.0.0.1", 0, on_ready=lambda host, port: print(port, flush=True))
app.close()
print("closed", flush=True)
"""


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_a_draining_server_refuses_new_requests_and_finishes_the_running_one(ending: signal.Signals) -> None:
    """503 ServiceUnavailableException with Retry-After on new and on kept connections; then the server ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdin is not None
    try:
        port = int(process.stdout.readline())
        kept, running = (http.client.HTTPConnection("127.0.0.1", port, timeout=20) for _ in range(2))
        assert health(kept) == 200
        running.request("POST", "/ListImagePipelines")
        assert process.stdout.readline() == "called\n"
        process.send_signal(ending)
        while health(kept) != 503:
            kept.close()
        kept.close()
        for _ in range(2):
            kept.request("PUT", "/UpdateImagePipeline", "{}")
            answer = kept.getresponse()
            answer.read()
            assert (answer.status, answer.headers["x-amzn-ErrorType"]) == (503, "ServiceUnavailableException")
            assert answer.headers["Retry-After"] == "1" and answer.headers["connection"] == "close"
        process.stdin.write("go on\n")
        process.stdin.flush()
        assert running.getresponse().status == 200
        assert process.communicate(timeout=20)[0] == "closed\n"
        assert process.returncode == 0
        kept.close()
        running.close()
    finally:
        process.kill()
        process.communicate()


def health(connection: http.client.HTTPConnection) -> int:
    connection.request("GET", "/healthz")
    answer = connection.getresponse()
    answer.read()
    return answer.status
