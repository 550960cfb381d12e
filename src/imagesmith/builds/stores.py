"""Opens the stores of a data directory and its settings, also for readers that do not build."""

from __future__ import annotations

from pathlib import Path

from imagesmith.artifacts.disks import DiskStore
from imagesmith.artifacts.exchange import Exchange
from imagesmith.artifacts.layout import OciLayout
from imagesmith.artifacts.shared_kinds import open_shared_store
from imagesmith.components.services import S3Config
from imagesmith.settings import Settings


def s3_config(settings: Settings) -> S3Config:
    """The S3 access in the settings. Raises OSError if the file with the secret key cannot be read."""
    secret = settings.s3_secret_key_file
    return S3Config(
        endpoint_url=settings.s3_endpoint_url,
        region=settings.region,
        access_key_id=settings.s3_access_key_id,
        secret_access_key=Path(secret).read_text(encoding="utf-8").strip() if secret else "",
    )


def open_exchange(settings: Settings) -> Exchange | None:
    """The shared store, if configured. Raises SharedStoreError for a store that cannot be used."""
    if not settings.artifacts:
        return None
    return Exchange(open_shared_store(settings.artifacts, s3_config(settings).client))


def open_layout(settings: Settings, exchange: Exchange | None) -> OciLayout:
    """The layout of the data directory, which fetches missing blobs from the shared store."""
    return OciLayout(settings.data_dir / "oci", obtain=None if exchange is None else exchange.obtain_image)


def open_disks(settings: Settings, exchange: Exchange | None) -> DiskStore:
    return DiskStore(settings.data_dir / "disks", obtain=None if exchange is None else exchange.obtain_disk)
