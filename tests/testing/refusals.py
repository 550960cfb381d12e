"""Expecting a refusal."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError


class Refused:
    """What a refused call said: `with refused("Code") as error: ...`, then error.message."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.message = ""
        self.status = 0

    def __enter__(self) -> Refused:
        return self

    def __exit__(self, kind: Any, error: Any, _traceback: Any) -> bool:
        if error is None:
            raise AssertionError(f"the call succeeded, expected {self.code}")
        if not isinstance(error, ClientError):
            return False
        assert error.response["Error"]["Code"] == self.code, error
        self.message = error.response["Error"]["Message"]
        self.status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        return True


def refused(code: str) -> Refused:
    return Refused(code)
