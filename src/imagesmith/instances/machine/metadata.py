"""EC2's instance metadata service (IMDS, versions 1 and 2) for the guest of one machine.

    guest --> QEMU's user network --> 169.254.169.254:80 in the machine's network namespace --> MetadataService

It returns what a run knows about its machine and no secrets: there are no credentials. An unknown path is a 404. It
answers one request at a time, and a connection lasts for one request and a few seconds, so a guest can only block
itself. `respond` makes the answers, without sockets.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Final

from imagesmith import processes
from imagesmith.instances.network import listen_inside
from imagesmith.namespaces.entering import entering

ADDRESS: Final = "169.254.169.254"
PORT: Final = 80
HOSTNAME: Final = "ip-10-0-3-15"
_GUEST_ADDRESS: Final = "10.0.3.15"
_MAC: Final = "52:54:00:12:34:56"
"""QEMU's default address of a machine's first network card."""
_TOKEN: Final = "x-aws-ec2-metadata-token"  # noqa: S105 - the name of a header
_TTL: Final = "x-aws-ec2-metadata-token-ttl-seconds"
_LONGEST_SECONDS: Final = 21600
_VERSION: Final = re.compile(r"latest|1\.0|\d{4}-\d{2}-\d{2}")
_REQUEST_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.1
_TOOL_SECONDS: Final = 30.0


@dataclass(frozen=True, kw_only=True)
class GuestMetadata:
    """What a machine may read about itself; empty ones are not shown."""

    instance_id: str
    account: str
    region: str
    ami_id: str = ""
    instance_type: str = ""
    user_data: bytes = b""
    tokens_required: bool = False
    """`httpTokens` of the infrastructure is `required`: only version 2 is answered."""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer of the metadata service."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] | None = None


def respond(
    guest: GuestMetadata, method: str, path: str, headers: Mapping[str, str], *, secret: bytes, now: float
) -> Answer:
    """Answer a request; names of `headers` in lower case, `now` in seconds, `secret` of this service alone."""
    path = path.partition("?")[0]
    if method == "PUT" and path.rstrip("/") == "/latest/api/token":
        return _token_for(headers, secret, now)
    if method not in ("GET", "HEAD"):
        return Answer(405, headers={"Allow": "GET, HEAD, PUT"})
    token = headers.get(_TOKEN)
    if (token is None and guest.tokens_required) or (token is not None and not _valid(token, secret, now)):
        return Answer(401)
    version, _, name = path.lstrip("/").partition("/")
    if not version:
        return Answer(200, b"latest\n")
    body = _found(_tree(guest), name) if _VERSION.fullmatch(version) else None
    return Answer(404) if body is None else Answer(200, body)


def meta_data(guest: GuestMetadata, path: str) -> str | None:
    """The value below `meta-data/`, as a guest would get it; None if there is none."""
    found = _found(_tree(guest), f"meta-data/{path}")
    return None if found is None else found.decode()


def _token_for(headers: Mapping[str, str], secret: bytes, now: float) -> Answer:
    """A token contains its expiry and a signature of its issuer, so none needs to be stored."""
    wanted = headers.get(_TTL, "")
    if "x-forwarded-for" in headers:
        return Answer(403)
    if not re.fullmatch(r"[0-9]{1,5}", wanted) or not 1 <= int(wanted) <= _LONGEST_SECONDS:
        return Answer(400)
    end = f"{now + int(wanted):.0f}"
    return Answer(200, f"{end}-{_mark(end, secret)}".encode(), {_TTL: wanted})


def _valid(token: str, secret: bytes, now: float) -> bool:
    end, _, mark = token.partition("-")
    same = hmac.compare_digest(mark.encode(errors="replace"), _mark(end, secret).encode())
    return same and end.isascii() and end.isdecimal() and now < int(end)


def _mark(end: str, secret: bytes) -> str:
    return hmac.new(secret, end.encode(errors="replace"), hashlib.sha256).hexdigest()


def _tree(guest: GuestMetadata) -> Mapping[str, bytes]:
    """Every file, by its path below the version."""
    zone = f"{guest.region}a"
    texts = {
        "ami-id": guest.ami_id, "hostname": HOSTNAME, "instance-id": guest.instance_id,
        "instance-type": guest.instance_type, "local-hostname": HOSTNAME, "local-ipv4": _GUEST_ADDRESS, "mac": _MAC,
        "placement/availability-zone": zone, "placement/region": guest.region,
        "services/domain": "amazonaws.com", "services/partition": "aws",
    }  # fmt: skip
    document = {
        "accountId": guest.account, "architecture": "x86_64", "availabilityZone": zone, "imageId": guest.ami_id,
        "instanceId": guest.instance_id, "instanceType": guest.instance_type, "privateIp": _GUEST_ADDRESS,
        "region": guest.region, "version": "2017-09-30",
    }  # fmt: skip
    known = {name: value for name, value in document.items() if value}
    tree = {f"meta-data/{name}": text.encode() for name, text in texts.items() if text}
    tree["dynamic/instance-identity/document"] = json.dumps(known, indent=2).encode()
    if guest.user_data:
        tree["user-data"] = guest.user_data
    return tree


def _found(tree: Mapping[str, bytes], name: str) -> bytes | None:
    """A file, or the names in a folder; names of folders end with a slash."""
    name = name.rstrip("/")
    if name in tree:
        return tree[name]
    prefix = f"{name}/" if name else ""
    below = [path.removeprefix(prefix).partition("/") for path in tree if path.startswith(prefix)]
    return "\n".join(sorted({first + slash for first, slash, _ in below})).encode() if below else None


class MetadataService:
    """Answers in the network namespace of a machine until `close()`."""

    def __init__(self, guest: GuestMetadata, namespace: Path, *, now: Callable[[], float] = time.time) -> None:
        """`now`: seconds, for the expiry of tokens. Raises OSError, ProcessFailed without the address."""
        processes.check(
            [*entering(net=namespace), "ip", "address", "add", f"{ADDRESS}/32", "dev", "lo"],
            what="giving the machine its metadata address", timeout=_TOOL_SECONDS,
        )  # fmt: skip
        self._server = _MetadataServer(guest, listen_inside(namespace, ADDRESS, PORT), now)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_POLL_SECONDS,), name="instance-metadata", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _MetadataServer(HTTPServer):
    def __init__(self, guest: GuestMetadata, sock: socket.socket, now: Callable[[], float]) -> None:
        super().__init__((ADDRESS, PORT), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = sock
        self.guest = guest
        self.now = now
        self.secret = secrets.token_bytes(32)

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignores errors: a guest may break its connection off."""


class _Handler(BaseHTTPRequestHandler):
    server: _MetadataServer
    server_version = "EC2ws"
    sys_version = ""
    timeout = _REQUEST_SECONDS

    def _answer(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        guest, secret = self.server.guest, self.server.secret
        answer = respond(guest, self.command, self.path, headers, secret=secret, now=self.server.now())
        self.send_response(answer.status)
        for name, value in {
            "Content-Type": "text/plain", "Content-Length": str(len(answer.body)), **(answer.headers or {}),
        }.items():  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815 - names of the base class

    def log_message(self, format: str, *args: object) -> None:
        """Logs nothing: requests of a guest are private."""
