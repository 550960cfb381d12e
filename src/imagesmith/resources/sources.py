"""Documents of a request: in it, or behind an `s3://` URI and read once at create (spec/api.md 4.4, 6.2)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from imagesmith.resources.call import Call
from imagesmith.resources.errors import ApiError, invalid_value
from imagesmith.settings import Settings
from imagesmith.values.api import ApiRequest

ReadSource = Callable[[str, str], str]
"""(path of the request member, URI) -> text; raises ApiError."""


def given_document(
    call: Call, request: ApiRequest, *, inline: str = "data", uri: str = "uri", noun: str = "document"
) -> tuple[str, str]:
    """The text that one of two members holds or names, and the name of that member. Raises ApiError.

    That exactly one is given is a rule of the operation (member_rules.one_source).
    """
    if inline in request:
        return request[inline], inline
    text = call.fetched or ""
    limit = call.settings.quotas.document_bytes
    if len(text.encode()) > limit:
        raise invalid_value(uri, f"The {noun} is larger than {limit} bytes.")
    return text, uri


def s3_reader(settings: Settings) -> ReadSource:
    """Read from the S3 endpoint of the settings, at most one byte more than the limit of a document."""

    def read(path: str, uri: str) -> str:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        if not uri.startswith("s3://") or not bucket or not key:
            raise invalid_value(path, f"{uri} is not of the form s3://bucket/key.")
        return _decoded(path, uri, _fetch(settings, path, uri, bucket, key))

    return read


def _fetch(settings: Settings, path: str, uri: str, bucket: str, key: str) -> bytes:
    # imported here: boto3 costs start-up time that only callers with s3:// sources need
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    secret = settings.s3_secret_key_file
    client = boto3.client(
        "s3",
        region_name=settings.region,
        endpoint_url=settings.s3_endpoint_url or None,
        aws_access_key_id=settings.s3_access_key_id or None,
        aws_secret_access_key=Path(secret).read_text(encoding="utf-8").strip() if secret else None,
        config=Config(connect_timeout=5, read_timeout=15, retries={"max_attempts": 2}),
    )
    try:
        answer = client.get_object(Bucket=bucket, Key=key)
        return answer["Body"].read(settings.quotas.document_bytes + 1)
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in ("AccessDenied", "403"):
            raise ApiError("AccessDeniedException", f"The object {uri} cannot be read: {error}") from error
        raise invalid_value(path, f"The object {uri} cannot be read: {error}.") from error
    except BotoCoreError as error:
        raise ApiError("ClientException", f"The object {uri} cannot be read: {error}") from error


def _decoded(path: str, uri: str, data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise invalid_value(path, f"The object {uri} is not UTF-8 text: {error}.") from error
