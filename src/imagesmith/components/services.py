"""Services that the caller provides to the runner and the actions: small protocols, each with a refusing default.

A service is used only when a document needs it, so a caller passes only what it has.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, Protocol


class NotConfigured(RuntimeError):
    """A document uses a service that this run does not have."""


class Clock(Protocol):
    def now(self) -> datetime:
        """The time of day, with its zone."""
        ...

    def monotonic(self) -> float:
        """Monotonic seconds."""
        ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return monotonic()


@dataclass(frozen=True)
class StoredParameter:
    """A value of Parameter Store. A secure one is masked in all output."""

    value: str
    secure: bool = False


class ParameterStore(Protocol):
    def get(self, name: str) -> StoredParameter:
        """The parameter of a name, which may have a version or label. Raises NotConfigured or LookupError."""
        ...


class Metadata(Protocol):
    def get(self, path: str) -> str:
        """The value below `meta-data/`. Raises NotConfigured or LookupError."""
        ...


@dataclass(frozen=True)
class SourceDocument:
    """The text of a document and its name in results: a path, an `s3://` address or an ARN."""

    label: str
    text: str


class DocumentSource(Protocol):
    def get(self, arn: str) -> SourceDocument:
        """The component of an ARN, wildcards included. Raises NotConfigured or LookupError."""
        ...


class NoParameterStore:
    def get(self, name: str) -> StoredParameter:
        raise NotConfigured(f"the parameter '{name}' is needed, but no parameter store is configured")


class NoMetadata:
    def get(self, path: str) -> str:
        raise NotConfigured(f"the metadata '{path}' is needed, but no metadata source is configured")


class NoDocumentSource:
    def get(self, arn: str) -> SourceDocument:
        raise NotConfigured(f"the component '{arn}' is needed, but no component store is configured")


@dataclass(frozen=True)
class S3Config:
    """The S3 endpoint. Empty fields mean boto3's own defaults."""

    endpoint_url: str = ""
    region: str = ""
    access_key_id: str = ""
    secret_access_key: str = field(default="", repr=False)

    def client(self) -> Any:
        """A boto3 client. Imported here: a run without S3 does not pay for it."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url or None,
            region_name=self.region or "us-east-1",
            aws_access_key_id=self.access_key_id or None,
            aws_secret_access_key=self.secret_access_key or None,
            config=Config(retries={"max_attempts": 4, "mode": "standard"}, connect_timeout=10, read_timeout=60),
        )


@dataclass(frozen=True)
class Services:
    """What component actions use of the world outside the instance."""

    parameters: ParameterStore = field(default_factory=NoParameterStore)
    metadata: Metadata = field(default_factory=NoMetadata)
    components: DocumentSource = field(default_factory=NoDocumentSource)
    s3: S3Config = field(default_factory=S3Config)
    loopback_downloads: bool = False
    """Whether WebDownload may reach addresses of the worker itself and of its link; a container may not either."""
    offline: bool = False
    """The instance has no network, so the worker transfers nothing for it either."""
    download_bytes: int = 20 * 1024**3
    """Longest file that WebDownload and S3Download fetch."""
    retry_seconds: float = 1.0
    """Wait before the second try; it doubles each time."""
    scratch: Path | None = None
    """Folder of the worker for files in transit; None: the system's temporary folder."""
    download_cache: Path | None = None
    """Cache folder of the worker for verified downloads, by digest; None: no cache."""
    proxies: Mapping[str, str] = field(
        default_factory=lambda: {
            name: os.environ[f"{name}_proxy"] for name in ("http", "https") if f"{name}_proxy" in os.environ
        }
    )
    """Scheme -> proxy address for downloads."""
