"""Requests per second of the wire layer alone: a dispatcher that does nothing, 16 connections, signatures verified.

    python benchmarks/wire_layer.py [--seconds 5] [--connections 16] [--threads 16]

The server has a process of its own; the client sends requests that were signed before the clock started. Also
printed: the time of one request without any network, which is what this layer adds to a handler.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import quote

import uvloop
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from imagesmith.accounts.keys import AccessKey, KeyRing
from imagesmith.resources.dispatch import Caller
from imagesmith.settings import Settings
from imagesmith.wire.create import create_app
from imagesmith.wire.limits import HttpLimits
from imagesmith.wire.messages import Request
from imagesmith.wire.model import Api
from imagesmith.wire.server import serve
from imagesmith.wire.service import ApiService
from imagesmith.wire.signature import Verifier

KEY = AccessKey("AKIABENCHMARK0000001", "s" * 40, "123456789012", "arn:aws:iam::123456789012:root")
ARN = "arn:aws:imagebuilder:us-east-1:123456789012:"
PIPELINE: dict[str, Any] = {
    "imagePipelineArn": ARN + "image-pipeline/mine",
    "containerRecipeArn": ARN + "container-recipe/mine/1.0.0",
    "infrastructureConfigurationArn": ARN + "infrastructure-configuration/mine",
    "distributionConfigurationArn": ARN + "distribution-configuration/mine",
    "description": "The golden image of the web servers",
    "enhancedImageMetadataEnabled": True,
    "imageTestsConfiguration": {"imageTestsEnabled": True, "timeoutMinutes": 720},
    "schedule": {"scheduleExpression": "cron(0 4 ? * MON *)", "timezone": "Europe/Berlin"},
    "status": "ENABLED",
}
STORED = {**PIPELINE, "arn": PIPELINE["imagePipelineArn"], "name": "mine", "tags": {"team": "web"}}


class Nothing:
    """A Dispatcher whose answers are ready."""

    operations = frozenset({"GetImagePipeline", "UpdateImagePipeline"})
    short_reads = short_changes = changes = frozenset[str]()

    def call(self, operation: str, caller: Caller, request: Mapping[str, Any]) -> dict[str, Any]:
        if operation == "GetImagePipeline":
            return {"imagePipeline": STORED}
        return {"imagePipelineArn": request["imagePipelineArn"]}


def now() -> datetime:
    return datetime.now(UTC)


def new_id() -> str:
    return str(uuid.uuid4())


def run_server(ready: Connection, threads: int) -> None:
    settings = Settings(data_dir=Path())
    app = create_app(
        Nothing(), keys=KeyRing([KEY]), settings=settings, clock=now, ids=new_id, limits=HttpLimits(threads=threads)
    )
    serve(app, "127.0.0.1", 0, on_ready=lambda _, port: ready.send(port))


def signed(host: str, method: str, target: str, body: bytes) -> AWSRequest:
    request = AWSRequest(method, f"http://{host}{target}", headers={"Content-Type": "application/json"}, data=body)
    SigV4Auth(Credentials(KEY.access_key_id, KEY.secret), "imagebuilder", "us-east-1").add_auth(request)
    return request


def subjects() -> dict[str, tuple[str, str, bytes]]:
    target = "/GetImagePipeline?imagePipelineArn=" + quote(PIPELINE["imagePipelineArn"], safe="")
    body = json.dumps({**PIPELINE, "clientToken": new_id()}).encode()
    return {"GetImagePipeline": ("GET", target, b""), "UpdateImagePipeline": ("PUT", "/UpdateImagePipeline", body)}


async def hammer(port: int, data: bytes, *, connections: int, seconds: float) -> list[float]:
    """The time of every request, of `connections` clients that each send the next when they have the answer."""
    times: list[float] = []
    end = time.perf_counter() + seconds

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (started := time.perf_counter()) < end:
            writer.write(data)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(head.decode())
            await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
            times.append(time.perf_counter() - started)
        writer.close()

    await asyncio.gather(*(client() for _ in range(connections)))
    return times


def over_http(port: int, connections: int, seconds: float) -> None:
    host = f"127.0.0.1:{port}"
    for name, (method, target, body) in subjects().items():
        request = signed(host, method, target, body)
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
        lines += [f"{header}: {value}" for header, value in request.headers.items()]
        data = "\r\n".join([*lines, "", ""]).encode() + body
        uvloop.run(hammer(port, data, connections=connections, seconds=1))
        times = sorted(uvloop.run(hammer(port, data, connections=connections, seconds=seconds)))
        middle, late = times[len(times) // 2] * 1000, times[int(len(times) * 0.99)] * 1000
        print(f"{name:20} {len(times) / seconds:7.0f} requests/s   median {middle:5.2f} ms   p99 {late:5.2f} ms")


def without_network(rounds: int = 5000) -> None:
    service = ApiService(
        Nothing(),
        Verifier(KeyRing([KEY]), clock=now),
        api=Api.load(),
        clock=now,
        ids=new_id,
        partition="aws",
        body_limit=2**20,
    )
    for name, (method, target, body) in subjects().items():
        headers = {
            key.lower(): [value] for key, value in signed("127.0.0.1:1", method, target, body).headers.items()
        }
        path, _, query = target.partition("?")
        request = Request(method, path, query, {**headers, "host": ["127.0.0.1:1"]}, body)
        if service.answer(request).status != 200:
            raise RuntimeError(service.answer(request))
        started = time.process_time()
        for _ in range(rounds):
            service.answer(request)
        spent = (time.process_time() - started) / rounds * 1e6
        print(f"{name:20} {spent:7.0f} µs of processor time per request without network")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--threads", type=int, default=HttpLimits().threads)
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} processors, {platform.machine()}, Python {platform.python_version()}")
    without_network()
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=run_server, args=(there, arguments.threads))
    process.start()
    try:
        over_http(here.recv(), arguments.connections, arguments.seconds)
    finally:
        process.terminate()
        process.join()


if __name__ == "__main__":
    main()
