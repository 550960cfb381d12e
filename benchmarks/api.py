"""The API of a real server against moto's server in the same run.

    python benchmarks/api.py [--rounds 3] [--connections 16] [--requests 4000]

rates    GetImagePipeline and UpdateImagePipeline on `imagesmith serve` (SQLite file, signatures verified, every
         update with a client token of its own) against get and create of an AppConfig application (REST-JSON as
         well) on `moto_server`; rounds take turns, and medians are compared. Goal: 5 times moto's rate.
lists    one page of ListImagePipelines with 100 to 100,000 stored pipelines. Goal: within 1.5 times.
memory   resident memory of the server that was started and asked nothing. Goal: below 150 MiB.

Load comes from processes of their own that send requests signed before the clock starts. It shares the processors
with the server, so rates are those of a machine that is busy with both.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3
import uvloop
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from imagesmith.store import queries
from imagesmith.store.database import Database
from imagesmith.wire.keys import AccessKey, KeyRing

REGION = "us-east-1"
ACCOUNT = "123456789012"
PIPELINES = 16
SENDERS = 2
LONGEST = 120
"""Seconds of one round."""

TOOLS = Path(sys.executable).parent
TEMPLATE = """\
FROM {{{ imagebuilder:parentImage }}}
{{{ imagebuilder:environments }}}
{{{ imagebuilder:components }}}
"""
COMPONENTS = [{"componentArn": f"arn:aws:imagebuilder:{REGION}:aws:component/hello-world-linux/x.x.x"}]


@dataclass(frozen=True)
class Load:
    """What a round measured: requests per second, and the slowest of 99 % in milliseconds."""

    rate: float
    p99: float


@dataclass(frozen=True)
class Peer:
    """A server that is asked: its port and how its requests are signed."""

    port: int
    key: AccessKey
    service: str

    def request(self, method: str, target: str, body: bytes = b"") -> bytes:
        """The bytes of a signed request."""
        host = f"127.0.0.1:{self.port}"
        headers = {"Content-Type": "application/json"} if body else {}
        request = AWSRequest(method, f"http://{host}{target}", headers=headers, data=body)
        SigV4Auth(Credentials(self.key.access_key_id, self.key.secret), self.service, REGION).add_auth(request)
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in request.headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + body


class Connection(asyncio.Protocol):
    """Sends the next request when the answer to the last one is complete.

    A server that closes its connections after each answer (moto's does) gets a new one for the next request; the
    time to connect is part of that request.
    """

    def __init__(self, port: int, requests: Iterator[bytes], times: list[float]) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._port = port
        self._requests = requests
        self._times = times
        self._buffer = b""
        self._request: bytes | None = None
        self._started = 0.0
        self._transport: Any = None

    async def connect(self) -> None:
        await asyncio.get_running_loop().create_connection(lambda: self, "127.0.0.1", self._port)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        if self._request is None:
            self._take()
        if self._request is not None:
            self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        if len(self._buffer) < end + 4 + length:
            return
        if not head.startswith((b"http/1.1 200 ", b"http/1.1 201 ")):
            self.done.set_exception(RuntimeError(self._buffer.decode()))
            return
        self._buffer = b""
        self._times.append(time.perf_counter() - self._started)
        self._take()
        if self._request is not None and b"connection: close" not in head:
            self._transport.write(self._request)

    def connection_lost(self, error: Exception | None) -> None:
        if self.done.done():
            return
        if error is not None:
            self.done.set_exception(error)
        else:
            self._again = asyncio.ensure_future(self.connect())

    def _take(self) -> None:
        self._request = next(self._requests, None)
        self._started = time.perf_counter()
        if self._request is None:
            self.done.set_result(None)
            self._transport.close()


async def send(port: int, requests: Sequence[bytes], connections: int) -> list[float]:
    """The time of every request, over connections that share the work."""
    times: list[float] = []
    rest = iter(requests)
    async with asyncio.timeout(LONGEST):
        clients = [Connection(port, rest, times) for _ in range(connections)]
        for client in clients:
            await client.connect()
        await asyncio.gather(*(client.done for client in clients))
    return times


def sender(pipe: Any, port: int, requests: Sequence[bytes], connections: int) -> None:
    """A process of its own: says that it is ready, waits for the start, sends, gives the times."""
    pipe.send("ready")
    pipe.recv()
    pipe.send(uvloop.run(send(port, requests, connections)))


def load(port: int, requests: Sequence[bytes], connections: int) -> Load:
    """Send every request once and measure."""
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for number in range(SENDERS):
        here, there = context.Pipe()
        arguments = (there, port, requests[number::SENDERS], connections // SENDERS)
        processes.append(context.Process(target=sender, args=arguments))
        pipes.append(here)
        processes[-1].start()
        there.close()  # so that a sender that dies ends the wait for it
    for pipe in pipes:
        pipe.recv()
    started = time.perf_counter()
    for pipe in pipes:
        pipe.send("start")
    times = sorted(moment for pipe in pipes for moment in pipe.recv())
    spent = time.perf_counter() - started
    for process in processes:
        process.join()
    return Load(len(times) / spent, times[int(len(times) * 0.99)] * 1000)


@contextmanager
def our_server(data_dir: Path) -> Iterator[tuple[Peer, int]]:
    """`imagesmith serve` as an operator starts it; gives how to reach it and its process id."""
    environment = {**os.environ, "IMAGESMITH_ACCOUNT": ACCOUNT, "IMAGESMITH_REGION": REGION}
    command = [str(TOOLS / "imagesmith"), "serve", "--data-dir", str(data_dir), "--port", "0"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("the server ended before it was ready")
        [key] = KeyRing.open(data_dir, ACCOUNT).keys
        yield Peer(int(line.rsplit(":", 1)[1]), key, "imagebuilder"), process.pid
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def moto_server() -> Iterator[Peer]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [str(TOOLS / "moto_server"), "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield Peer(port, AccessKey("AKIABENCHMARK0000001", "s" * 40, ACCOUNT, ""), "appconfig")
    finally:
        process.terminate()
        process.wait(60)


def client_of(peer: Peer) -> Any:
    return boto3.session.Session().client(
        peer.service,  # type: ignore[call-overload]
        endpoint_url=f"http://127.0.0.1:{peer.port}", region_name=REGION,
        aws_access_key_id=peer.key.access_key_id, aws_secret_access_key=peer.key.secret,
        config=Config(retries={"max_attempts": 0}),
    )  # fmt: skip


def make_pipelines(client: Any) -> list[dict[str, Any]]:
    """Pipelines with all that an update names; gives the members of an update of each."""
    recipe = client.create_container_recipe(
        containerType="DOCKER", name="web", semanticVersion="1.0.0", components=COMPONENTS,
        parentImage=f"arn:aws:imagebuilder:{REGION}:aws:image/debian-x86-12/x.x.x",
        dockerfileTemplateData=TEMPLATE,
        targetRepository={"service": "ECR", "repositoryName": "web"},
    )["containerRecipeArn"]  # fmt: skip
    infrastructure = client.create_infrastructure_configuration(name="infra", instanceProfileName="profile")
    container = {"targetRepository": {"service": "ECR", "repositoryName": "web"}, "containerTags": ["latest"]}
    distribution = client.create_distribution_configuration(
        name="dist", distributions=[{"region": REGION, "containerDistributionConfiguration": container}]
    )
    members = {
        "containerRecipeArn": recipe,
        "infrastructureConfigurationArn": infrastructure["infrastructureConfigurationArn"],
        "distributionConfigurationArn": distribution["distributionConfigurationArn"],
        "description": "The golden image of the web servers",
        "enhancedImageMetadataEnabled": True,
        "imageTestsConfiguration": {"imageTestsEnabled": True, "timeoutMinutes": 720},
        "schedule": {"scheduleExpression": "cron(0 4 ? * MON *)", "timezone": "Europe/Berlin"},
        "status": "ENABLED",
    }
    return [
        {"imagePipelineArn": client.create_image_pipeline(name=f"pipe {number}", **members)["imagePipelineArn"]}
        | members
        for number in range(PIPELINES)
    ]


def our_get(peer: Peer, pipelines: Sequence[dict[str, Any]], count: int) -> list[bytes]:
    signed = [
        peer.request("GET", "/GetImagePipeline?imagePipelineArn=" + quote(item["imagePipelineArn"], safe=""))
        for item in pipelines
    ]
    return [signed[number % len(signed)] for number in range(count)]


def our_update(peer: Peer, pipelines: Sequence[dict[str, Any]], count: int) -> list[bytes]:
    bodies = ({**pipelines[number % len(pipelines)], "clientToken": str(uuid.uuid4())} for number in range(count))
    return [peer.request("PUT", "/UpdateImagePipeline", json.dumps(body).encode()) for body in bodies]


def moto_get(peer: Peer, application: str, count: int) -> list[bytes]:
    return [peer.request("GET", f"/applications/{application}")] * count


def moto_create(peer: Peer, count: int) -> list[bytes]:
    bodies = (
        {"Name": f"a{uuid.uuid4().hex}", "Description": "The web servers", "Tags": {"team": "web"}}
        for _ in range(count)
    )
    return [peer.request("POST", "/applications", json.dumps(body).encode()) for body in bodies]


def compare_rates(ours: Peer, pipelines: Sequence[dict[str, Any]], arguments: argparse.Namespace) -> None:
    with moto_server() as moto:
        application = client_of(moto).create_application(Name="first", Description="d", Tags={"a": "b"})["Id"]
        many, few = arguments.requests, max(arguments.connections, arguments.requests // 10)
        subjects: dict[str, tuple[int, Callable[[int], list[bytes]]]] = {
            "GetImagePipeline": (ours.port, lambda share: our_get(ours, pipelines, many // share)),
            "moto get": (moto.port, lambda share: moto_get(moto, application, few // share)),
            "UpdateImagePipeline": (ours.port, lambda share: our_update(ours, pipelines, many // share)),
            "moto create": (moto.port, lambda share: moto_create(moto, few // share)),
        }
        measured: dict[str, list[Load]] = {name: [] for name in subjects}
        for port, make in subjects.values():
            load(port, make(4), arguments.connections)  # warm
        for _ in range(arguments.rounds):
            for name, (port, make) in subjects.items():
                measured[name].append(load(port, make(1), arguments.connections))
    for name, loads in measured.items():
        rate, p99 = (statistics.median(getattr(item, part) for item in loads) for part in ("rate", "p99"))
        print(f"{name:20} {rate:7.0f} requests/s   p99 {p99:6.1f} ms")
    for name, peer in (("GetImagePipeline", "moto get"), ("UpdateImagePipeline", "moto create")):
        ratio = statistics.median(
            mine.rate / its.rate for mine, its in zip(measured[name], measured[peer], strict=True)
        )
        print(f"{name} / {peer}: {ratio:.1f} times")


def fill(database: Database, template: str, wanted: int, have: int) -> None:
    """Store copies of a pipeline, in batches as short as those of the API would be."""
    with database.read() as tx:
        record = queries.get(tx, template)
    assert record is not None
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for first in range(have, wanted, 1000):
        with database.write(f"{ACCOUNT}/{REGION}") as tx:
            for number in range(first, min(first + 1000, wanted)):
                arn = f"{template.rpartition('/')[0]}/stored-{number}"
                document = {**record.document, "arn": arn, "name": f"stored-{number}"}
                created = start + timedelta(seconds=number)
                copy = replace(
                    record, arn=arn, slug=f"stored-{number}", name=f"stored-{number}", created=created,
                    document=document,
                )  # fmt: skip
                queries.insert(tx, copy)


def compare_lists(peer: Peer, data_dir: Path, template: str) -> None:
    database = Database(f"sqlite:///{data_dir / 'imagesmith.sqlite'}")
    client = client_of(peer)
    medians = {}
    have = PIPELINES
    try:
        for wanted in (100, 1000, 10_000, 100_000):
            fill(database, template, wanted, have)
            have = wanted
            token = client.list_image_pipelines(maxResults=25)["nextToken"]
            pages = [
                peer.request("POST", "/ListImagePipelines", json.dumps(body).encode())
                for body in ({"maxResults": 25}, {"maxResults": 25, "nextToken": token})
            ]
            uvloop.run(send(peer.port, pages * 50, 1))
            medians[wanted] = statistics.median(uvloop.run(send(peer.port, pages * 250, 1))) * 1000
            print(f"ListImagePipelines   {wanted:7} stored: {medians[wanted]:6.2f} ms a page of 25")
    finally:
        database.close()
    print(f"ListImagePipelines   100,000 / 100 stored: {medians[100_000] / medians[100]:.2f} times")


def resident_mib(pid: int) -> float:
    """Of a process and its children."""
    own = next(
        int(line.split()[1]) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmRSS" in line
    )
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return own / 1024 + sum(resident_mib(int(child)) for child in children)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--requests", type=int, default=4000, help="of each round; moto gets a tenth")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} processors, {platform.machine()}, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory(prefix="imagesmith-benchmark-") as folder:
        data_dir = Path(folder) / "data"
        with our_server(data_dir) as (peer, pid):
            time.sleep(3)
            print(f"idle server: {resident_mib(pid):.0f} MiB resident")
            pipelines = make_pipelines(client_of(peer))
            compare_rates(peer, pipelines, arguments)
            compare_lists(peer, data_dir, pipelines[0]["imagePipelineArn"])
            print(f"server after the load: {resident_mib(pid):.0f} MiB resident")


if __name__ == "__main__":
    main()
