"""`imagesmith image attest`: attaches documents and signatures to an image of a registry again."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from imagesmith.artifacts.layout import LayoutError
from imagesmith.artifacts.retry_policy import RetryPolicy
from imagesmith.artifacts.shared import SharedStoreError
from imagesmith.builds.stores import open_exchange, open_layout
from imagesmith.cli.context import CommandFailed, data_dir_option, settings_of
from imagesmith.cli.registry_images import registry_image
from imagesmith.cli.screen import echo
from imagesmith.distribution.attest import attest as attach_all
from imagesmith.distribution.client import RegistryError
from imagesmith.inspection.signing import SigningError, SigningKey
from imagesmith.inspection.statements import VerificationFailed


@click.command()
@click.argument("reference", metavar="HOST/REPOSITORY:TAG")
@data_dir_option
def attest(reference: str, data_dir: Path) -> None:
    """Attach inventory, provenance and signature to an image of a registry, again or for the first time.

    \b
    The image must have been built here: the documents come from the data directory, and
    what the registry lost meanwhile comes back. The signature names HOST/REPOSITORY, so an
    image that was copied to another repository gets its name there.
    Example:  imagesmith image attest registry.example:5000/web:1.0.0-1 --data-dir ./data
    """
    settings = settings_of(data_dir)
    try:
        image = registry_image(settings, reference)
        layout = open_layout(settings, open_exchange(settings))
        if image.digest not in set(layout.references().values()):
            raise VerificationFailed(
                f"{image.digest} is not in the data directory; only what was built here is signed"
            )
        key = SigningKey.open(settings.data_dir)
        kinds = attach_all(
            layout, image.registry, image.repository, image.digest, key, RetryPolicy(), datetime.now(UTC)
        )
    except (LayoutError, RegistryError, SharedStoreError, SigningError, VerificationFailed) as error:
        raise CommandFailed(f"{reference} is not attested: {error}") from error
    echo(f"{image.digest}: signed as {image.name}; attached: {', '.join(kinds)}")
