"""The API of a real server against moto's server in the same run.

    python benchmarks/api.py [--rounds 3] [--connections 16] [--seconds 4] [--only rates|lists]

rates    GetImagePipeline and UpdateImagePipeline on `imagesmith serve` (SQLite file, signatures verified, every
         update with a client token of its own) against gets and creates on `moto_server`, REST-JSON as well: an
         AppConfig application (three members) and an API of API Gateway (nested members). Rounds take turns, and
         medians are compared. Goals: 20 times moto's get, 14 times moto's create, p99 of reads below 0.25 times
         moto's.
lists    one page of ListImagePipelines, one read and one update, one after the other, with 100 to 100,000 stored
         pipelines. Goals: none takes more than 1.3 times as long with 100,000 as with 1,000, and a page takes less
         than 10 times as long as a read.
memory   resident memory of the server that was started and asked nothing. Goal: below 150 MiB.

Load comes from wrk (Debian's package), which sends requests that were signed before the clock starts and no update
twice. It shares the processors with the server, so rates are those of a machine that is busy with both.
"""

from __future__ import annotations

import argparse
import json
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
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from imagesmith.accounts.keys import AccessKey
from imagesmith.accounts.operator_key import read_operator_key
from imagesmith.accounts.secret_box import FILE_NAME, SecretBox
from imagesmith.store import queries
from imagesmith.store.database import Database

REGION = "us-east-1"
ACCOUNT = "123456789012"
PIPELINES = 16
FIRST_PER_SECOND = 1000
"""Changes that are signed for each second of the first load; later ones follow what was measured."""
SPARE = 1.5
"""How many more changes are signed than a load of that rate sends."""

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


SCRIPT = """
local next, requests = 0, {}
function init(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  while true do
    local length = file:read("*l")
    if not length then break end
    requests[#requests + 1] = file:read(tonumber(length))
  end
end
function request()
  next = next + 1
  return requests[(next - 1) % #requests + 1]
end
function done(summary, latency)
  local wrong = summary.errors.connect + summary.errors.read + summary.errors.write
  io.write(string.format(
    "%d %d %d %d %d\\n", summary.requests, summary.duration, summary.errors.status, wrong, latency:percentile(99)
  ))
end
"""
"""Reads the requests, each after a line with its length, and prints counts and microseconds at the end."""


class TooFewRequests(Exception):
    """The server answered faster than requests had been signed: some were sent twice, so the load is void."""

    def __init__(self, sent: int) -> None:
        self.sent = sent


def load(port: int, requests: Sequence[bytes], connections: int, seconds: int) -> Load:
    """Send requests for some seconds and measure. Raises TooFewRequests when a change was sent twice."""
    with tempfile.TemporaryDirectory(prefix="imagesmith-benchmark-") as folder:
        script, file = Path(folder) / "load.lua", Path(folder) / "requests"
        script.write_text(SCRIPT)
        file.write_bytes(b"".join(b"%d\n%b" % (len(request), request) for request in requests))
        done = subprocess.run(
            ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(script),
             f"http://127.0.0.1:{port}", "--", str(file)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    count, microseconds, refused, wrong, p99 = map(int, done.stdout.splitlines()[-1].split())
    # before the refusals: a change that is sent twice may be refused
    if requests[0].startswith((b"PUT", b"POST")) and count > len(requests):
        raise TooFewRequests(count)
    if refused:
        raise RuntimeError(f"{refused} of {count} requests were refused")
    del wrong  # moto's server closes connections as it likes; wrk opens new ones
    return Load(count / microseconds * 1e6, p99 / 1000)


@dataclass
class Subject:
    """What is measured, with as many requests as its speed needs."""

    port: int
    make: Callable[[int], Sequence[bytes]]
    """Signed requests: this many, or fewer when they may be sent again."""
    per_second: float = FIRST_PER_SECOND

    def load(self, connections: int, seconds: int) -> Load:
        while True:
            try:
                found = load(self.port, self.make(int(self.per_second * seconds)), connections, seconds)
            except TooFewRequests as error:
                self.per_second = max(error.sent / seconds, self.per_second) * SPARE
            else:
                self.per_second = max(found.rate * SPARE, self.per_second)
                return found


def page_times(port: int, pages: Sequence[bytes]) -> list[float]:
    """Seconds that each of the requests takes, one after the other on one connection."""
    times = []
    with socket.create_connection(("127.0.0.1", port)) as connection, connection.makefile("rb") as answers:
        for request in pages:
            started = time.perf_counter()
            connection.sendall(request)
            status = answers.readline()
            length = 0
            while line := answers.readline().strip().lower():
                if line.startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            body = answers.read(length)
            times.append(time.perf_counter() - started)
            if b" 200 " not in status:
                raise RuntimeError(body.decode())
    return times


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
        key = read_operator_key(data_dir, SecretBox.open(data_dir / FILE_NAME, may_create=False))
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


def our_get(peer: Peer, pipelines: Sequence[dict[str, Any]]) -> list[bytes]:
    return [
        peer.request("GET", "/GetImagePipeline?imagePipelineArn=" + quote(item["imagePipelineArn"], safe=""))
        for item in pipelines
    ]


def our_update(peer: Peer, pipelines: Sequence[dict[str, Any]], count: int) -> list[bytes]:
    bodies = ({**pipelines[number % len(pipelines)], "clientToken": str(uuid.uuid4())} for number in range(count))
    return [peer.request("PUT", "/UpdateImagePipeline", json.dumps(body).encode()) for body in bodies]


@dataclass(frozen=True)
class Comparable:
    """A resource of moto's that is got and created."""

    name: str
    service: str
    path: str
    body: Callable[[], dict[str, Any]]
    id_member: str

    def get(self, moto: Peer) -> list[bytes]:
        """Reads of one resource, which is created first."""
        peer = replace(moto, service=self.service)
        with socket.create_connection(("127.0.0.1", peer.port)) as connection, connection.makefile("rb") as answer:
            connection.sendall(peer.request("POST", self.path, json.dumps(self.body()).encode()))
            made = json.loads(answer.read().partition(b"\r\n\r\n")[2])
        return [peer.request("GET", f"{self.path}/{made[self.id_member]}")]

    def create(self, moto: Peer, count: int) -> list[bytes]:
        peer = replace(moto, service=self.service)
        return [peer.request("POST", self.path, json.dumps(self.body()).encode()) for _ in range(count)]


def application() -> dict[str, Any]:
    return {"Name": f"a{uuid.uuid4().hex}", "Description": "The web servers", "Tags": {"team": "web"}}


def gateway_api() -> dict[str, Any]:
    return {
        "name": f"a{uuid.uuid4().hex}", "protocolType": "HTTP", "description": "The web servers",
        "corsConfiguration": {"allowOrigins": ["*"], "allowMethods": ["GET"], "maxAge": 300},
        "tags": {"team": "web"},
    }  # fmt: skip


COMPARED = (
    Comparable("AppConfig", "appconfig", "/applications", application, "Id"),
    Comparable("API Gateway", "apigateway", "/v2/apis", gateway_api, "apiId"),
)


def compare_rates(ours: Peer, pipelines: Sequence[dict[str, Any]], arguments: argparse.Namespace) -> None:
    seconds, connections = arguments.seconds, arguments.connections
    with moto_server() as moto:
        subjects = {
            "GetImagePipeline": Subject(ours.port, lambda _: our_get(ours, pipelines)),
            "UpdateImagePipeline": Subject(ours.port, partial(our_update, ours, pipelines)),
        }
        for item in COMPARED:
            subjects[f"moto {item.name} get"] = Subject(moto.port, lambda _, item=item: item.get(moto))  # type: ignore[misc]
            subjects[f"moto {item.name} create"] = Subject(moto.port, partial(item.create, moto))
        measured: dict[str, list[Load]] = {name: [] for name in subjects}
        for number in range(arguments.rounds + 1):
            for name, subject in subjects.items():
                found = subject.load(connections, seconds)
                if number:  # the first round warms up
                    measured[name].append(found)
    for name, loads in measured.items():
        rate, p99 = (statistics.median(getattr(item, part) for item in loads) for part in ("rate", "p99"))
        print(f"{name:24} {rate:7.0f} requests/s   p99 {p99:6.1f} ms")
    for name, kind in (("GetImagePipeline", "get"), ("UpdateImagePipeline", "create")):
        for item in COMPARED:
            pairs = zip(measured[name], measured[f"moto {item.name} {kind}"], strict=True)
            ratio = statistics.median(mine.rate / its.rate for mine, its in pairs)
            slow = statistics.median(
                mine.p99 / its.p99
                for mine, its in zip(measured[name], measured[f"moto {item.name} {kind}"], strict=True)
            )
            print(f"{name} / moto {item.name} {kind}: {ratio:.1f} times, p99 {slow:.2f} times")


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


def compare_lists(peer: Peer, data_dir: Path, pipelines: Sequence[dict[str, Any]]) -> None:
    database = Database(f"sqlite:///{data_dir / 'imagesmith.sqlite'}")
    client = client_of(peer)
    template = pipelines[0]["imagePipelineArn"]
    medians: dict[int, dict[str, float]] = {}
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
            page_times(peer.port, pages * 50)
            kinds = {
                "ListImagePipelines": pages * 250, "GetImagePipeline": our_get(peer, pipelines) * 30,
                "UpdateImagePipeline": our_update(peer, pipelines, 300),
            }  # fmt: skip
            medians[wanted] = {
                kind: statistics.median(page_times(peer.port, requests)) * 1000 for kind, requests in kinds.items()
            }
            shown = ", ".join(f"{kind} {value:.2f} ms" for kind, value in medians[wanted].items())
            print(f"{wanted:7} stored: {shown}")
    finally:
        database.close()
    for kind, value in medians[100_000].items():
        print(f"{kind}   100,000 / 1,000 stored: {value / medians[1000][kind]:.2f} times")
    page, read = (medians[100_000][kind] for kind in ("ListImagePipelines", "GetImagePipeline"))
    print(f"a page / a read, 100,000 stored: {page / read:.1f} times")


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
    parser.add_argument("--seconds", type=int, default=4, help="of load, for each subject and round")
    parser.add_argument("--only", choices=("rates", "lists"), help="measure this part alone")
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} processors, {platform.machine()}, Python {platform.python_version()}")
    with tempfile.TemporaryDirectory(prefix="imagesmith-benchmark-") as folder:
        data_dir = Path(folder) / "data"
        with our_server(data_dir) as (peer, pid):
            time.sleep(3)
            print(f"idle server: {resident_mib(pid):.0f} MiB resident")
            pipelines = make_pipelines(client_of(peer))
            if arguments.only != "lists":
                compare_rates(peer, pipelines, arguments)
            if arguments.only != "rates":
                compare_lists(peer, data_dir, pipelines)
            print(f"server after the load: {resident_mib(pid):.0f} MiB resident")


if __name__ == "__main__":
    main()
