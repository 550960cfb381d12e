"""A real S3 server for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
from moto.server import ThreadedMotoServer


@contextmanager
def object_store(*buckets: str) -> Iterator[Any]:
    """A client of a new S3 server with these buckets, at `client.meta.endpoint_url`; any key is taken."""
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        client = boto3.client(
            "s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1", aws_access_key_id="a",
            aws_secret_access_key="b",
        )  # fmt: skip
        for bucket in buckets:
            client.create_bucket(Bucket=bucket)
        yield client
        client.close()
    finally:
        server.stop()


def store_settings(endpoint: str, folder: Path) -> str:
    """The lines of a settings file that name a store; its secret key becomes a file of the folder."""
    secret = folder / "secret-key"
    secret.write_text("b\n")
    return f's3_endpoint_url = "{endpoint}"\ns3_access_key_id = "a"\ns3_secret_key_file = "{secret}"\n'
