"""WebDownload against a real server that misbehaves on purpose (spec/components.md 10.9)."""

from __future__ import annotations

import hashlib
import http.server
import socket
import ssl
import subprocess
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imagesmith.components.services import Services
from testing.component_support import Ran, RunText, error, one_step

CONTENT = bytes(range(256)) * 4096
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT; paths choose the misbehaviour. `seen` holds path and Range of every request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seen: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("http://"):  # what a client asks of a proxy
            path = f"/for/{urllib.parse.urlsplit(path).netloc}"
        wanted = self.headers.get("Range", "")
        self.server.seen.append((path, wanted))
        tries = sum(seen == path for seen, _ in self.server.seen)
        if path == "/for/moved.example":
            self._head(302, {"Location": f"{self.server.url}/file"})
        elif path == "/redirect":
            self._head(302, {"Location": "/file"})
        elif path == "/to-file":
            self._head(302, {"Location": "file:///etc/passwd"})
        elif path == "/missing":
            self._head(404, {})
        elif path == "/busy" and tries < 3:
            self._head(503, {})
        elif path == "/down":
            self._head(500, {})
        elif path == "/basic" and self.headers.get("Authorization") != "Basic dXNlcjpw":
            self._head(401, {})
        elif path == "/broken" and tries < 3:
            self._body(wanted, cut=100_000)
        else:
            self._body(wanted)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def _body(self, wanted: str, cut: int | None = None) -> None:
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        body = CONTENT[start:]
        self._head(206 if start else 200, {"Content-Length": str(len(body)), "ETag": '"one"'})
        self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def download(run_text: RunText, tmp_path: Path) -> Any:
    """Download entries and give the run."""

    def run(*entries: dict[str, Any], **more: Any) -> Ran:
        services = Services(
            **{
                "loopback_downloads": True,
                "retry_seconds": 0.01,
                "proxies": {},
                "download_cache": tmp_path / "cache",
                **more,
            }
        )
        return run_text(one_step("WebDownload", list(entries)), services=services)

    return run


def test_download(download: Any, server: Server) -> None:
    """Files come with their folders; the output is all paths; redirects are followed."""
    ran = download(
        {"source": f"{server.url}/file?key=1", "destination": "a/b/one"},
        {"source": f"{server.url}/some%20name.bin", "destination": "c/"},
        {"source": f"{server.url}/redirect", "destination": "two"},
    )
    assert ran.step("Step").outputs == ({"destination": "a/b/one\nc/some name.bin\ntwo"},)
    for name in ("a/b/one", "c/some name.bin", "two"):
        assert (ran.folder / name).read_bytes() == CONTENT
    assert (ran.folder / "two").stat().st_mode & 0o7777 == 0o644
    assert [path.name for path in (ran.folder / "c").iterdir()] == ["some name.bin"]


def test_overwrite(download: Any, server: Server) -> None:
    """With overwrite false an existing file is an error and nothing is asked of the server."""
    source = f"{server.url}/file"
    ran = download(
        {"source": source, "destination": "one"}, {"source": source, "destination": "one", "overwrite": False}
    )
    assert "'overwrite' is false" in error(ran)
    assert ran.step("Step").outputs == ({"destination": "one"},)
    assert len(server.seen) == 1


def test_checksums(download: Any, server: Server) -> None:
    """A matching checksum is cached and skips later downloads; a wrong one leaves the old file alone."""
    source = f"{server.url}/file"
    good = {"source": source, "destination": "one", "checksum": SHA256.upper(), "algorithm": "sha256"}
    ran = download(good, good, {**good, "destination": "two"})
    assert ran.status == "success" and len(server.seen) == 1
    assert (ran.folder / "two").read_bytes() == CONTENT
    (ran.folder / "one").write_text("old")
    bad = download({**good, "checksum": "0" * 64})
    assert f"has the sha256 checksum {SHA256}, expected {'0' * 64}" in error(bad)
    assert (ran.folder / "one").read_text() == "old"
    for algorithm in ("md5", "SHA1", "Sha512"):
        digest = hashlib.new(algorithm.lower(), CONTENT).hexdigest()
        assert (
            download({**good, "destination": algorithm, "checksum": digest, "algorithm": algorithm}).status
            == "success"
        )


def test_lone_checksum_is_a_note(download: Any, server: Server) -> None:
    """A checksum without its algorithm verifies nothing, and the log says so."""
    ran = download({"source": f"{server.url}/file", "destination": "one", "checksum": "00"})
    assert ran.status == "success"
    assert "must be set together" in ran.log


def test_retries(download: Any, server: Server) -> None:
    """Passing failures are tried again, at most five times; lasting ones are not."""
    assert download({"source": f"{server.url}/busy", "destination": "one"}).status == "success"
    assert len(server.seen) == 3
    assert "the server answered 500" in error(download({"source": f"{server.url}/down", "destination": "one"}))
    assert [path for path, _ in server.seen].count("/down") == 5
    assert "the server answered 404" in error(download({"source": f"{server.url}/missing", "destination": "x"}))
    assert [path for path, _ in server.seen].count("/missing") == 1


def test_resume(download: Any, server: Server) -> None:
    """A broken transfer goes on where it ended instead of beginning again."""
    ran = download({"source": f"{server.url}/broken", "destination": "one"})
    assert ran.status == "success", ran.log
    assert (ran.folder / "one").read_bytes() == CONTENT
    assert [wanted for _, wanted in server.seen] == ["", "bytes=100000-", "bytes=200000-"]


def test_proxies(download: Any, server: Server) -> None:
    """With a proxy for its scheme a download goes through it, to names that the worker itself need not know."""
    entry = {"source": "http://files.nowhere.invalid/file", "destination": "one"}
    ran = download(entry, proxies={"http": server.url})
    assert ran.status == "success" and (ran.folder / "one").read_bytes() == CONTENT
    assert server.seen == [("/for/files.nowhere.invalid", "")]


def test_redirect_elsewhere_is_refused(download: Any, server: Server) -> None:
    """A redirect to another scheme is not followed."""
    ran = download({"source": f"{server.url}/to-file", "destination": "one"})
    assert error(ran) and not (ran.folder / "one").exists()


def test_credentials_in_the_url(download: Any, server: Server) -> None:
    """User and password of a URL are sent, and never shown in messages."""
    ran = download({"source": server.url.replace("//", "//user:p@") + "/basic", "destination": "one"})
    assert ran.status == "success"
    wrong = download({"source": server.url.replace("//", "//user:hidden@") + "/basic?key=also", "destination": "x"})
    assert "401" in error(wrong)
    assert "hidden" not in wrong.log and "also" not in wrong.log


def own_addresses() -> list[str]:
    """The addresses of this machine's interfaces, as a URL writes them."""
    lines = subprocess.run(
        ["ip", "-oneline", "addr"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    found = [(words[1], words[2], words[3].partition("/")[0]) for words in map(str.split, lines)]
    return [
        address if family == "inet" else f"[{address}%25{link}]" if address.startswith("fe80") else f"[{address}]"
        for link, family, address in found
    ]


def names_of_the_worker() -> list[str]:
    """Ways of writing an address that leads to this machine."""
    return [
        "127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.9.9.9", "0", "0.0.0.0",
        "0.1.2.3", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]",
        "169.254.169.254", "[fe80::1]", "[fd00:ec2::254]", "100.100.100.200", "255.255.255.255", "224.0.0.1",
        socket.gethostname(), *own_addresses(),
    ]  # fmt: skip


def test_addresses_of_the_worker_are_refused(download: Any) -> None:
    """Without permission a document cannot reach the worker's own services, by whatever name, address or port.

    All refusals read the same, whether something listens there or not.
    """
    seen = set()
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listening:
        listening.settimeout(0)
        opened = listening.getsockname()[1]
        with socket.create_server(("127.0.0.1", 0)) as closed:
            shut = closed.getsockname()[1]
        for host in names_of_the_worker():
            for port in (opened, shut):
                source = f"http://{host}:{port}/file"
                told = error(download({"source": source, "destination": "x"}, loopback_downloads=False))
                seen.add(told.replace(source, "URL"))
        with pytest.raises(BlockingIOError):
            listening.accept()
    assert len(seen) == 1 and "worker itself" in seen.pop()


def test_a_name_is_resolved_once_for_its_look_and_its_connection(
    download: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that changes its mind is connected to where it led when it was looked at, or refused."""
    asked: list[str] = []
    tried: list[Any] = []
    real = socket.getaddrinfo

    def answers(host: str, port: Any, **more: Any) -> Any:
        asked.append(host)
        return real("198.51.100.7" if len(asked) == 1 else "127.0.0.1", port, **more)

    def connect(_self: socket.socket, place: Any) -> None:
        tried.append(place)
        raise ConnectionRefusedError("nothing there")

    monkeypatch.setattr(socket, "getaddrinfo", answers)
    monkeypatch.setattr(socket.socket, "connect", connect)
    ran = download({"source": "http://changes.example/", "destination": "x"}, loopback_downloads=False)
    assert "worker itself" in error(ran)
    assert asked == ["changes.example"] * 2
    assert [place for place in tried if place[1] == 80] == [("198.51.100.7", 80)]


def test_neither_a_proxy_nor_a_redirect_leads_to_the_worker(download: Any, server: Server) -> None:
    """The proxy may be on this machine, what it is asked for may not; every hop is looked at."""
    proxied = {"loopback_downloads": False, "proxies": {"http": server.url}}
    assert "worker itself" in error(download({"source": f"{server.url}/file", "destination": "x"}, **proxied))
    assert server.seen == []
    assert "worker itself" in error(download({"source": "http://moved.example/", "destination": "x"}, **proxied))
    assert [path for path, _ in server.seen] == ["/for/moved.example"]
    assert download({"source": "http://other.example/", "destination": "x"}, **proxied).status == "success"


def test_size_limit(download: Any, server: Server) -> None:
    """A file longer than allowed is refused while it comes."""
    ran = download({"source": f"{server.url}/file", "destination": "one"}, download_bytes=1000)
    assert "longer than 1000 bytes" in error(ran) and not (ran.folder / "one").exists()


def test_certificates(download: Any, tmp_path: Path) -> None:
    """An unknown certificate is refused in words, and accepted when the document says so."""
    pem = tmp_path / "pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"),
            *("-keyout", pem, "-out", tmp_path / "crt"),
        ],
        check=True,
        capture_output=True,
    )
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "crt", pem)
    with Server() as server:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        source = server.url.replace("http:", "https:") + "/file"
        refused = download({"source": source, "destination": "one"})
        allowed = download({"source": source, "destination": "one", "ignoreCertificateErrors": True})
        server.shutdown()
        thread.join()
    assert "the certificate is not valid" in error(refused)
    assert allowed.status == "success"


def test_unreachable_server(download: Any) -> None:
    """A server that is not there is told after the tries, without its query."""
    message = error(download({"source": "http://127.0.0.1:1/x?secret=1", "destination": "one"}))
    assert message.startswith("http://127.0.0.1:1/x: ") and message.endswith("5 tries")
