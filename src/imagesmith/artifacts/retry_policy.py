"""Retry policy for an unreachable registry: doubling pauses, and the registry's Retry-After."""

from __future__ import annotations

import email.utils
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

import urllib3

from imagesmith.retries import Backoff, Failure, retrying
from imagesmith.settings import Registry

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 60.0
"""Seconds between attempts: doubling from the first to the longest."""

PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses of a registry that may succeed later."""

_ASK = urllib3.Timeout(connect=5, read=10)

Value = TypeVar("Value")


@dataclass(frozen=True)
class RetryPolicy:
    """`attempts` in all, at least 1; `longest`: seconds of any pause; `sleep` gets the seconds between them."""

    attempts: int = 1
    longest: float = LONGEST_PAUSE
    sleep: Callable[[float], None] = time.sleep

    def retrying(
        self,
        action: Callable[[], Value],
        *,
        retry: Callable[[Failure], bool],
        asked: Callable[[Failure], float] = lambda _: 0.0,
        before_retry: Callable[[Failure, float], None] = lambda _failure, _pause: None,
    ) -> Value:
        """retries.retrying() with the attempts and pauses of this policy."""
        return retrying(
            action, retry=retry, attempts=max(self.attempts, 1), backoff=Backoff(FIRST_PAUSE, self.longest),
            asked=asked, before_retry=before_retry, sleep=self.sleep,
        )  # fmt: skip


def retry_after(text: str, now: datetime) -> float:
    """The seconds in a Retry-After header, in either of its forms; 0 for none, a past date, and invalid text."""
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        wanted = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0
    wanted = wanted if wanted.tzinfo else wanted.replace(tzinfo=UTC)
    return max(0.0, (wanted - now).total_seconds())


def asked_pause(host: str, repository: str, registry: Registry | None) -> float:
    """The Retry-After of a registry that has just failed; 0 without the header or an answer.

    skopeo and buildah do not report it, so a request is sent again, without credentials.
    """
    insecure = registry is not None and registry.insecure
    with urllib3.PoolManager(timeout=_ASK, cert_reqs=ssl.CERT_NONE if insecure else ssl.CERT_REQUIRED) as http:
        for scheme in ("https", "http") if insecure else ("https",):
            for path in ("/v2/", f"/v2/{repository}/tags/list"):
                try:
                    answer = http.request("GET", f"{scheme}://{host}{path}", redirect=False, retries=False)
                except urllib3.exceptions.HTTPError:
                    break
                if answer.status in PASSING:
                    return retry_after(answer.headers.get("Retry-After", ""), datetime.now(UTC))
    return 0.0
