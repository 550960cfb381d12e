"""The common part of commands: the data directory, the client, and failures."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

from imagesmith.cli.screen import echo
from imagesmith.files import write_atomically
from imagesmith.settings import Settings, SettingsError
from imagesmith.settings_loader import DATA_DIR_VARIABLE, load_settings, misspelt_variables

if TYPE_CHECKING:
    from mypy_boto3_imagebuilder import ImagebuilderClient

    from imagesmith.accounts.keys import AccessKey

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


class CommandFailed(Exception):
    """An expected failure of a command: one sentence and a hint."""

    def __init__(self, message: str, hint: str = "") -> None:
        self.hint = hint
        super().__init__(message)


def default_data_dir() -> str:
    if os.geteuid() == 0:
        return "/var/lib/imagesmith"
    return str(Path.home() / ".local/share/imagesmith")


class _DataDir(click.Path):
    """A path that is not empty: `--data-dir "$UNSET"` would otherwise mean the working directory."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not str(value):
            self.fail("it is empty; name a folder", param, ctx)
        return super().convert(value, param, ctx)


def data_dir_option(command: Decorated) -> Decorated:
    """`--data-dir`, also from IMAGESMITH_DATA_DIR."""
    return click.option(
        "--data-dir",
        envvar=DATA_DIR_VARIABLE,
        default=default_data_dir,
        show_default="/var/lib/imagesmith, or ~/.local/share/imagesmith",
        type=_DataDir(path_type=Path),
        help="Where the server keeps its database, keys and artifacts.",
    )(command)


def json_option(command: Decorated) -> Decorated:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")(command)


def log_level_option(command: Decorated) -> Decorated:
    return click.option(
        "--log-level",
        type=click.Choice(("debug", "info", "warning", "error"), case_sensitive=False),
        default="warning",
        show_default=True,
        help="Lowest level of the log lines of this process.",
    )(command)


def settings_of(data_dir: Path, *, file: Path | None = None, **overrides: Any) -> Settings:
    """The settings of a data directory. Raises CommandFailed."""
    try:
        return load_settings(data_dir, file=file, environment=os.environ, overrides=overrides)
    except SettingsError as error:
        raise CommandFailed(str(error)) from error


def warn_of_variables() -> None:
    """Warn about variables that look like settings and have no effect."""
    for name, meant in misspelt_variables(os.environ):
        echo(f"warning: the variable {name} is unknown{f'; did you mean {meant}?' if meant else ''}", err=True)


@dataclass(frozen=True)
class ServerAddress:
    """The listening address of a data directory's server; written by `serve` when it is ready."""

    url: str
    pid: int
    authority: str = ""
    """Path of the certificates that clients trust; empty: those of their machine."""

    @staticmethod
    def path(data_dir: Path) -> Path:
        return data_dir / "server.json"

    @classmethod
    def read(cls, data_dir: Path) -> ServerAddress | None:
        try:
            data = json.loads(cls.path(data_dir).read_text(encoding="utf-8"))
            return cls(data["url"], data["pid"], data.get("authority", ""))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, data_dir: Path) -> None:
        write_atomically(self.path(data_dir), json.dumps(asdict(self)))


def url_of(scheme: str, host: str, port: int) -> str:
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def connect(data_dir: Path) -> ImagebuilderClient:
    """An ordinary boto3 client for the selected server. Raises CommandFailed.

    --data-dir or IMAGESMITH_DATA_DIR given -> the server and the key pair of that data directory
    else an endpoint in the environment     -> that endpoint, with the environment's keys where it has some
    else                                    -> the server and the key pair of the default data directory

    Beside IMAGESMITH_DATA_DIR the keys of the environment count too, if its endpoint is the server of that
    directory: `imagesmith env` prints both, and a shell may then have the keys of another account.
    """
    settings = settings_of(data_dir)
    address = ServerAddress.read(data_dir)
    url = os.environ.get("AWS_ENDPOINT_URL_IMAGEBUILDER")
    beside = address is not None and url == address.url and _data_dir_source() == ParameterSource.ENVIRONMENT
    elsewhere = url or os.environ.get("AWS_ENDPOINT_URL") if beside or not _is_named() else None
    if elsewhere:
        url = elsewhere
    elif address is not None:
        url = address.url
    if not url:
        raise CommandFailed(
            f"no server is known for {data_dir}",
            f"start one with: imagesmith serve --data-dir {data_dir}",
        )
    authority = address.authority if address is not None and url == address.url else ""
    if elsewhere and os.environ.get("AWS_ACCESS_KEY_ID") and os.environ.get("AWS_SECRET_ACCESS_KEY"):
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or settings.region
        return _client(url, region, authority=authority)
    return _client(url, settings.region, first_key(data_dir, settings), authority=authority)


def _client(url: str, region: str, key: AccessKey | None = None, *, authority: str = "") -> ImagebuilderClient:
    """A client with a key pair, or with that of the environment; no profile of the user's configuration counts."""
    import boto3
    import botocore.session
    from botocore.config import Config

    # AWS_PROFILE with the name of a profile that does not exist would end every client.
    plain = botocore.session.Session(session_vars={"profile": (None, None, None, None)})
    return boto3.Session(botocore_session=plain).client(
        "imagebuilder", endpoint_url=url, region_name=region, verify=authority or None,
        aws_access_key_id=key.access_key_id if key else None, aws_secret_access_key=key.secret if key else None,
        config=Config(
            retries={"max_attempts": 2}, connect_timeout=5, read_timeout=60,
            # a proxy for the internet does not reach a server on this machine
            proxies={} if _is_loopback(url) else None,
        ),
    )  # fmt: skip


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _is_named() -> bool:
    """Whether the data directory was named, and is not the default."""
    without_command = click.get_current_context(silent=True) is None
    return without_command or _data_dir_source() not in (None, ParameterSource.DEFAULT)


def _data_dir_source() -> ParameterSource | None:
    context = click.get_current_context(silent=True)
    return context.get_parameter_source("data_dir") if context else None


def first_key(data_dir: Path, settings: Settings) -> AccessKey:
    """The key pair of commands, which the server of the data directory wrote there. Raises CommandFailed."""
    # imported late: most commands need no key
    from imagesmith.accounts.keys import KeysError
    from imagesmith.accounts.operator_key import FILE_NAME, read_operator_key
    from imagesmith.accounts.secret_box import SecretsError, open_existing

    if not (data_dir / FILE_NAME).exists():
        raise CommandFailed(
            f"{data_dir} has no access key yet",
            f"the first start of a server makes one: imagesmith serve --data-dir {data_dir}",
        )
    try:
        return read_operator_key(data_dir, open_existing(settings))
    except (KeysError, SecretsError, OSError) as error:
        raise CommandFailed(str(error)) from error


@contextmanager
def api_errors() -> Iterator[None]:
    """Convert errors of the API or the network to one line."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        details = error.response.get("Error", {})
        raise CommandFailed(f"{details.get('Code')}: {details.get('Message')}") from error
    except BotoCoreError as error:
        raise CommandFailed(str(error), "is the server running? see: imagesmith doctor") from error


def print_json(value: Any) -> None:
    echo(json_text(value, indent=2))


def json_text(value: Any, *, indent: int | None = None) -> str:
    """JSON that consists of printable ASCII only."""
    return json.dumps(value, indent=indent, default=str).replace("\x7f", "\\u007f")
