"""A registry that is away or busy: pushes, pulls and documents go on, as long as it asks, and no longer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from imagesmith.artifacts.bases import Bases, ParentError
from imagesmith.artifacts.layout import OciLayout
from imagesmith.artifacts.refusals import has_answered, is_away
from imagesmith.artifacts.retry_policy import RetryPolicy, retry_after
from imagesmith.artifacts.storage import ContainerStorage
from imagesmith.distribution.client import RegistryClient, RegistryError
from imagesmith.distribution.push import push_image
from imagesmith.distribution.push_request import PushFailed
from imagesmith.settings import Registry
from testing.containers import exported
from testing.registry_support import BusyProxy, RunningRegistry, write_layout

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7), (" 120 ", 120), ("0", 0), ("", 0), ("-5", 0), ("1.5", 0), ("soon", 0), ("\u0667", 0),
        ("9" * 400, 0),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(NOW - timedelta(days=1), usegmt=True), 0),
        ("Fri, 99 Jan 2026 03:05:35 GMT", 0), ("Fri, 02 Jan 2026 03:05:35", 90),
    ],
)  # fmt: skip
def test_retry_after_is_read_in_both_forms(text: str, seconds: float) -> None:
    """Seconds and a date; what is neither asks for nothing."""
    assert retry_after(text, NOW) == seconds


def test_pauses_double_and_are_bounded() -> None:
    """Up to the longest of the settings, which also bounds what a registry asks for."""
    assert pauses_of(10) == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    assert pauses_of(2, asked=20) == [20] and pauses_of(2, asked=1e9) == [60] and pauses_of(6, asked=1)[-1] == 8


def pauses_of(attempts: int, *, asked: float = 0.0) -> list[float]:
    """The pauses of a policy whose attempts all fail."""
    pauses: list[float] = []

    def fail() -> None:
        raise OSError

    with pytest.raises(OSError):
        RetryPolicy(attempts, 60.0, pauses.append).retrying(fail, retry=lambda _: True, asked=lambda _: asked)
    return pauses


@pytest.mark.parametrize(
    ("words", "away", "answered"),
    [
        ("received unexpected HTTP status: 503 Service Unavailable", True, True),
        ("toomanyrequests: slow down", True, True),
        ("dial tcp 127.0.0.1:5000: connect: connection refused", True, False),
        ("lookup r.example: no such host", True, False),
        ("manifest unknown: manifest unknown", False, False),
        ("unauthorized: authentication required", False, False),
        ("no space left on device", False, False),
    ],
)
def test_a_pull_goes_on_only_while_the_registry_is_away(words: str, away: bool, answered: bool) -> None:
    """A missing image, a login and a full disk are final."""
    assert (is_away(words), has_answered(words)) == (away, answered)


@pytest.fixture
def proxied(open_registry: RunningRegistry) -> Iterator[Callable[..., BusyProxy]]:
    made: list[BusyProxy] = []

    def make(*answers: tuple[int, str]) -> BusyProxy:
        made.append(BusyProxy(open_registry.host, list(answers)))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


def push(folder: Path, host: str, retry_policy: RetryPolicy) -> tuple[str, int]:
    digest = write_layout(folder, "web:1")
    done = push_image(
        folder, "web:1", digest=digest, registry=Registry(host, insecure=True), tags=["1"],
        repository=f"retries/{folder.name}", retry_policy=retry_policy, cancellation=None, on_line=lambda _: None,
    )  # fmt: skip
    return digest, done.attempts


@pytest.mark.tool
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_push_waits_as_long_as_the_registry_asks(
    tmp_path: Path, proxied: Callable[..., BusyProxy], form: str
) -> None:
    """503 with Retry-After: the pause is what it says; the image is there in the end."""
    asked = "40" if form == "seconds" else format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
    proxy = proxied(*[(503, asked)] * 10)
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        proxy.left.clear()

    digest, attempts = push(tmp_path / form, proxy.host, RetryPolicy(3, 60.0, sleep))
    assert digest and attempts == 2 and len(pauses) == 1 and 25 < pauses[0] <= 40


@pytest.mark.tool
def test_what_a_registry_asks_for_is_bounded(tmp_path: Path, proxied: Callable[..., BusyProxy]) -> None:
    """A day becomes the longest pause of the settings; the attempts are bounded as well."""
    proxy = proxied(*[(503, "86400")] * 50)
    pauses: list[float] = []
    with pytest.raises(PushFailed, match="after 3 attempts"):
        push(tmp_path / "day", proxy.host, RetryPolicy(3, 5.0, pauses.append))
    assert pauses == [5, 5]


@pytest.mark.tool
@pytest.mark.parametrize("status", [429, 503])
def test_documents_are_attached_by_a_registry_that_is_busy_at_first(
    proxied: Callable[..., BusyProxy], status: int
) -> None:
    """Blobs, manifests and the list of referrers alike; without a policy the first answer is the last."""
    proxy = proxied(*[(status, "3")] * 2)
    registry = Registry(proxy.host, insecure=True)
    pauses: list[float] = []
    with RegistryClient(registry, RetryPolicy(4, 60.0, pauses.append)) as client:
        client.put_blob("retries/documents", b"{}")
        assert pauses == [3, 3]
        proxy.left += [(status, "2")]
        assert client.manifest("retries/documents", "none", accept="*/*") is None
        proxy.left += [(status, "2")]
        assert client.referrers("retries/documents", "sha256:" + "0" * 64) == []
    assert pauses == [3, 3, 2, 2]
    proxy.left += [(status, "2")]
    with RegistryClient(registry) as hasty, pytest.raises(RegistryError, match=f"HTTP {status}"):
        hasty.put_blob("retries/documents", b"{}")


@pytest.mark.tool
def test_a_pull_goes_on_when_the_registry_is_back(
    tmp_path: Path,
    own_registry: RunningRegistry,
    container_storage: ContainerStorage,
    tiny_image: str,
    layout: OciLayout,
) -> None:
    """The real registry, stopped and started meanwhile; one that is not in the settings has fewer tries."""
    own_registry.start()
    source, target = (
        exported(container_storage, tiny_image, tmp_path / "exported"),
        f"docker://{own_registry.host}/base:1",
    )
    container_storage.tool(["skopeo", "copy", "--quiet", "--dest-tls-verify=false", source, target], what="pushing")
    own_registry.kill()
    bases = Bases(container_storage, layout, folder=tmp_path / "bases")
    pauses: list[float] = []
    lines: list[str] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            own_registry.start()

    known = Registry(own_registry.host, insecure=True)
    reference = f"{own_registry.host}/base:1"
    found = bases.registry(
        reference, registry=known, retry_policy=RetryPolicy(6, 60.0, sleep), on_line=lines.append
    )
    assert found.image_id == tiny_image and pauses == [0.5, 1] and "attempt 1 of 6" in lines[0]
    own_registry.kill()
    pauses.clear()
    with pytest.raises(ParentError, match="cannot be pulled"):
        bases.registry(reference, registry=None, retry_policy=RetryPolicy(50, 60.0, pauses.append))
    assert pauses == [0.5, 1, 2]
    own_registry.start()
    pauses.clear()
    with pytest.raises(ParentError, match="manifest unknown"):
        bases.registry(
            f"{own_registry.host}/base:none", registry=known, retry_policy=RetryPolicy(9, 60.0, pauses.append)
        )
    assert pauses == []


@pytest.fixture
def layout(tmp_path: Path) -> OciLayout:
    return OciLayout(tmp_path / "oci")
