"""A real S3 server for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from moto.server import ThreadedMotoServer


@contextmanager
def s3_endpoint() -> Iterator[str]:
    """The URL of a new S3 server; any key is taken."""
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def s3_client(endpoint: str, *buckets: str, config: Config | None = None) -> Any:
    """A client of an S3 server, in which it makes these buckets."""
    client = boto3.client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b",
        config=config,
    )  # fmt: skip
    for bucket in buckets:
        client.create_bucket(Bucket=bucket)
    return client


@contextmanager
def object_store(*buckets: str, config: Config | None = None) -> Iterator[Any]:
    """A client of a new S3 server with these buckets, at `client.meta.endpoint_url`."""
    with s3_endpoint() as endpoint:
        client = s3_client(endpoint, *buckets, config=config)
        yield client
        client.close()


def store_settings(endpoint: str, folder: Path) -> str:
    """The lines of a settings file that name a store; its secret key becomes a file of the folder."""
    secret = folder / "secret-key"
    secret.write_text("b\n")
    return f's3_endpoint_url = "{endpoint}"\ns3_access_key_id = "a"\ns3_secret_key_file = "{secret}"\n'
