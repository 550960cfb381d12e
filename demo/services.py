"""What the demos start and end: a registry, a server. Of the standard library alone, so that they start at once.

What is started ends with the demo, also when it is interrupted.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
REGION = "us-east-1"


def end_on_signals() -> None:
    """Every way of ending a terminal or a job runs the clean-up of the demo."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job of a script may begin without SIGINT
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))


def demo_folder() -> Path:
    """Where the demos keep what the next run reuses."""
    folder = Path(os.environ.get("IMAGESMITH_DEMO_DIR", HERE.parent / ".demo")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def start(stack: ExitStack, argv: list[str], **options: Any) -> subprocess.Popen[str]:
    """Start a program that ends with the demo."""
    # a session of its own: Ctrl-C reaches the demo alone, which then stops the others in order
    process = subprocess.Popen(argv, text=True, start_new_session=True, **options)

    def stop() -> None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    stack.callback(stop)
    return process


def start_registry(stack: ExitStack, folder: Path) -> str:
    """Debian's docker-registry on a free loopback port."""
    storage = folder / "registry"
    configuration = folder / "registry.yml"
    configuration.write_text(
        "version: 0.1\nlog: {level: error}\n"
        f"storage: {{filesystem: {{rootdirectory: {storage}}}, delete: {{enabled: true}}}}\n"
        "http: {addr: '127.0.0.1:0'}\n"
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "REGISTRY_HTTP_ADDR": f"127.0.0.1:{port}"}
    with (folder / "registry.log").open("w") as log:
        start(stack, ["docker-registry", "serve", str(configuration)], env=environment, stdout=log, stderr=log)
    for _ in range(100):
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) == 0:
                return f"127.0.0.1:{port}"
        time.sleep(0.05)
    raise SystemExit(f"the registry did not start; see {folder / 'registry.log'}")


def start_server(stack: ExitStack, data_dir: Path, registry: str) -> subprocess.Popen[str]:
    """Start `imagesmith serve` with the registry in its settings; `address_of` waits until it listens."""
    data_dir.mkdir(parents=True, exist_ok=True)
    (data_dir / "settings.toml").write_text(
        f'region = "{REGION}"\n[registries."{REGION}"]\nurl = "{registry}"\ninsecure = true\n'
    )
    command = [str(Path(sys.executable).parent / "imagesmith"), "serve", "--port", "0", "--data-dir", str(data_dir)]
    return start(stack, command, stdout=subprocess.PIPE)


def address_of(server: subprocess.Popen[str]) -> str:
    """The URL a server says it listens on, once it does."""
    assert server.stdout is not None
    for line in server.stdout:
        found = re.match(r"listening on (\S+)", line)
        if found:
            return found.group(1)
    raise SystemExit("the server did not start")
