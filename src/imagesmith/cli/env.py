"""`imagesmith env`: shell exports that point any AWS client at the server."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from imagesmith.cli.context import (
    CommandFailed,
    ServerAddress,
    data_dir_option,
    first_key,
    json_option,
    print_json,
    settings_of,
    url_of,
)
from imagesmith.cli.screen import echo
from imagesmith.settings import Settings
from imagesmith.settings_loader import DATA_DIR_VARIABLE

UNSET = (
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_CREDENTIAL_EXPIRATION",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
)
"""Variables that SDKs would use beside, or instead of, the printed key pair and endpoint: a token is sent with any
key, an expiry in the past makes botocore fail and so does an absent profile, and an existing one overrides the
environment in some SDKs."""


def _expected_url(settings: Settings) -> str:
    """The address of a server that does not run."""
    secure = settings.tls.self_signed or settings.tls.certificate
    return url_of("https" if secure else "http", settings.host, settings.port)


@click.command()
@data_dir_option
@json_option
def env(data_dir: Path, as_json: bool) -> None:
    """Print exports for the AWS CLI, SDKs and Terraform.

    \b
    Example:  eval "$(imagesmith env --data-dir ./data)"
              aws imagebuilder list-image-pipelines
              imagesmith schedule list
    The variable IMAGESMITH_DATA_DIR is for commands of imagesmith, which then need no --data-dir.
    """
    settings = settings_of(data_dir)
    if not data_dir.exists():
        raise CommandFailed(f"{data_dir} does not exist", f"start a server: imagesmith serve --data-dir {data_dir}")
    key = first_key(data_dir, settings)
    address = ServerAddress.read(data_dir)
    variables = {
        "AWS_ENDPOINT_URL_IMAGEBUILDER": address.url if address else _expected_url(settings),
        "AWS_ACCESS_KEY_ID": key.access_key_id,
        "AWS_SECRET_ACCESS_KEY": key.secret,
        "AWS_REGION": settings.region,
        "AWS_DEFAULT_REGION": settings.region,
        DATA_DIR_VARIABLE: str(data_dir.absolute()),
    }
    if address is not None and address.authority:
        variables["AWS_CA_BUNDLE"] = address.authority
    if as_json:
        print_json(variables)
        return
    # a shell's variables of another account: a token of another key, a profile with other keys
    echo(f"unset {' '.join(UNSET)}")
    for name, value in variables.items():
        echo(f"export {name}={shlex.quote(value)}")
