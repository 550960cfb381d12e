"""`s3://` addresses, and reading one object (spec/components.md 10.6 to 10.8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from imagesmith.components.services import S3Config


class S3Error(RuntimeError):
    """An invalid address, or a refusal by the store: the text holds the address and the store's message."""


@dataclass(frozen=True)
class S3Address:
    """The bucket and the key of an object."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


def parse_address(text: str) -> S3Address:
    """`s3://bucket/key`; the key may be empty. Raises S3Error."""
    scheme, _, rest = text.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme.lower() != "s3" or not bucket:
        raise S3Error(f"'{text[:200]}' is not an S3 address; write s3://bucket/key")
    return S3Address(bucket, key)


def owner_arguments(owner: str) -> dict[str, str]:
    """The expected owner of a bucket as arguments of a request."""
    return {"ExpectedBucketOwner": owner} if owner else {}


def store_error(address: str, error: Exception) -> S3Error:
    """The store's refusal in one sentence."""
    response: Any = getattr(error, "response", None)
    answer = response.get("Error", {}) if isinstance(response, dict) else {}
    detail = f"{answer.get('Code', '')} {answer.get('Message', '')}".strip() or str(error)
    return S3Error(f"{address}: {detail}")


def read_object(config: S3Config, text: str, *, owner: str = "", limit: int) -> bytes:
    """The bytes of an object that is at most `limit` long. Raises S3Error."""
    from botocore.exceptions import BotoCoreError, ClientError

    address = parse_address(text)
    if not address.key:
        raise S3Error(f"'{text}' names a bucket, not an object")
    try:
        answer = config.client().get_object(Bucket=address.bucket, Key=address.key, **owner_arguments(owner))
        data: bytes = answer["Body"].read(limit + 1)
    except (BotoCoreError, ClientError) as error:
        raise store_error(text, error) from error
    if len(data) > limit:
        raise S3Error(f"{text} is longer than {limit} bytes")
    return data
