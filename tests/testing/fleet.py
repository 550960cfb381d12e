"""Images with packages in a store, as builds leave them, for questions about all images."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from imagesmith.inspection.packages import OsRelease, Package
from imagesmith.store import ancestry, inventories, queries
from imagesmith.store.ancestry import Lineage
from imagesmith.store.database import Database
from imagesmith.store.records import Record
from imagesmith.values.version import Version

ACCOUNT = "000000000000"
REGION = "us-east-1"
SCOPE = f"{ACCOUNT}/{REGION}"
NOW = datetime(2026, 11, 28, tzinfo=UTC)
DEBIAN = OsRelease("Debian GNU/Linux", "12", "Debian GNU/Linux 12 (bookworm)", "debian")


def image_arn(name: str, build: int = 1) -> str:
    return f"arn:aws:imagebuilder:{REGION}:{ACCOUNT}:image/{name}/1.0.0/{build}"


def pipeline_arn(name: str) -> str:
    return f"arn:aws:imagebuilder:{REGION}:{ACCOUNT}:image-pipeline/{name}"


def digest_of(name: str, build: int = 1) -> str:
    return "sha256:" + f"{name}-{build}".encode().hex().rjust(64, "0")


def deb(name: str, version: str, source: str = "") -> Package:
    return Package(name, version, "amd64", source or name)


def put_image(
    database: Database,
    name: str,
    packages: Sequence[Package] | None,
    *,
    build: int = 1,
    system: OsRelease | None = DEBIAN,
    parent: str = "",
    parent_digest: str = "",
    status: str = "AVAILABLE",
    by_hand: bool = False,
) -> str:
    """Store an image of the pipeline of its name; without `packages` it has no inventory. Returns its ARN."""
    arn = image_arn(name, build)
    uri = f"registry.example/{name}:1.0.0-{build}"
    document = {
        "arn": arn, "name": name, "type": "DOCKER", "version": f"1.0.0/{build}", "state": {"status": status},
        "dateCreated": "2026-11-28T00:00:00.000Z",
        "outputResources": {"containers": [{"region": REGION, "imageUris": [uri]}]},
    }  # fmt: skip
    record = Record(
        arn=arn, account=ACCOUNT, region=REGION, kind="image", slug=name, name=name, document=document,
        created=NOW + timedelta(minutes=build), version=Version(1, 0, 0), build=build, status=status,
        source="" if by_hand else pipeline_arn(name),
    )  # fmt: skip
    with database.write(SCOPE) as tx:
        queries.insert(tx, record)
        if packages is not None:
            rows = [item.to_json() for item in packages]
            inventories.put_inventory(tx, arn, rows, None if system is None else system.to_json())
        lineage = Lineage(
            image_arn=arn, digest=digest_of(name, build), parent=parent, parent_digest=parent_digest
        )  # fmt: skip
        ancestry.put_lineages(tx, [lineage])
    return arn
