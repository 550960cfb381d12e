"""Images by ARN or name, read from the store without a server."""

from __future__ import annotations

from sqlalchemy.engine import Connection

from imagesmith.cli.context import CommandFailed
from imagesmith.settings import Settings
from imagesmith.store import queries
from imagesmith.store.records import Record
from imagesmith.values.arn import Arn, ArnError, slug_of


def stored_image(tx: Connection, settings: Settings, reference: str) -> Record:
    """The build of an ARN, NAME, NAME/1.0.0 or NAME/1.0.0/3; the newest that fits. Raises CommandFailed."""
    account, region, path = settings.account, settings.region, reference
    if reference.startswith("arn:"):
        try:
            arn = Arn.parse(reference)
        except ArnError as error:
            raise CommandFailed(str(error)) from error
        account, region, path = arn.owner, arn.region, arn.path
    name, _, wanted = path.partition("/")
    for record in queries.versions(tx, account, region, "image", slug_of(name)) if name else ():
        version = record.arn.partition(f"/{record.slug}/")[2]
        if not wanted or version == wanted or version.startswith(f"{wanted}/"):
            return record
    raise CommandFailed(f"there is no image {reference}", "list them with: imagesmith image list")
