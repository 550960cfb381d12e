"""What commands share: the data directory, the client, and how they fail."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.console import Console

from imagesmith.settings import Settings, SettingsError, load_settings
from imagesmith.wire.keys import FILE_NAME, AccessKey, KeyRing, KeysError

if TYPE_CHECKING:
    from mypy_boto3_imagebuilder import ImagebuilderClient

_WIDE = 400
"""Columns when standard output is no terminal: tables are not cut."""

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class CommandFailed(Exception):
    """An expected failure of a command: one sentence and what to try."""

    def __init__(self, message: str, hint: str = "") -> None:
        self.hint = hint
        super().__init__(message)


def default_data_dir() -> str:
    if os.geteuid() == 0:
        return "/var/lib/imagesmith"
    return str(Path.home() / ".local/share/imagesmith")


def data_dir_option(command: Decorated) -> Decorated:
    """`--data-dir`, also from IMAGESMITH_DATA_DIR."""
    return click.option(
        "--data-dir",
        envvar="IMAGESMITH_DATA_DIR",
        default=default_data_dir,
        show_default="/var/lib/imagesmith, or ~/.local/share/imagesmith",
        type=click.Path(path_type=Path),
        help="Where the server keeps its database, keys and artifacts.",
    )(command)


def json_option(command: Decorated) -> Decorated:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")(command)


def settings_of(data_dir: Path, *, file: Path | None = None, **overrides: Any) -> Settings:
    """The settings of a data directory. Raises CommandFailed."""
    try:
        return load_settings(data_dir, file=file, environment=os.environ, overrides=overrides)
    except SettingsError as error:
        raise CommandFailed(str(error)) from error


@dataclass(frozen=True)
class ServerAddress:
    """Where the server of a data directory listens; written by `serve` when it is ready."""

    url: str
    pid: int

    @staticmethod
    def path(data_dir: Path) -> Path:
        return data_dir / "server.json"

    @classmethod
    def read(cls, data_dir: Path) -> ServerAddress | None:
        try:
            data = json.loads(cls.path(data_dir).read_text(encoding="utf-8"))
            return cls(data["url"], data["pid"])
        except (OSError, ValueError, KeyError):
            return None

    def write(self, data_dir: Path) -> None:
        temporary = self.path(data_dir).with_suffix(".tmp")
        temporary.write_text(json.dumps({"url": self.url, "pid": self.pid}), encoding="utf-8")
        temporary.replace(self.path(data_dir))


def connect(data_dir: Path) -> ImagebuilderClient:
    """An ordinary boto3 client for the server of a data directory. Raises CommandFailed."""
    import boto3
    from botocore.config import Config

    settings = settings_of(data_dir)
    url = os.environ.get("AWS_ENDPOINT_URL_IMAGEBUILDER")
    address = ServerAddress.read(data_dir)
    if url is None and address is not None:
        url = address.url
    if url is None:
        raise CommandFailed(
            f"no server is known for {data_dir}",
            f"start one with: imagesmith serve --data-dir {data_dir}",
        )
    key = first_key(data_dir, settings)
    return boto3.client(
        "imagebuilder",
        endpoint_url=url,
        region_name=settings.region,
        aws_access_key_id=key.access_key_id,
        aws_secret_access_key=key.secret,
        config=Config(retries={"max_attempts": 2}, connect_timeout=5, read_timeout=60),
    )


def first_key(data_dir: Path, settings: Settings) -> AccessKey:
    """The key pair that the first start of a server wrote. Raises CommandFailed."""
    try:
        keys = KeyRing.open(data_dir, settings.account, partition=settings.partition).keys
    except (KeysError, OSError) as error:
        raise CommandFailed(str(error)) from error
    if not keys:
        raise CommandFailed(f"{data_dir / FILE_NAME} holds no key")
    return keys[0]


@contextmanager
def api_errors() -> Iterator[None]:
    """Turn what the API or the network says into one line."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        details = error.response.get("Error", {})
        raise CommandFailed(f"{details.get('Code')}: {details.get('Message')}") from error
    except BotoCoreError as error:
        raise CommandFailed(str(error), "is the server running? see: imagesmith doctor") from error


def print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, default=str))


def make_console(*, quiet: bool = False) -> Console:
    """Standard output: as wide as the terminal, and without a width where lines are read by programs."""
    return Console(quiet=quiet) if sys.stdout.isatty() else Console(quiet=quiet, width=_WIDE)
