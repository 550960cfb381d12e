"""Pushes to a real registry: what arrives, what is tried again, what is refused at once, what stays secret."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from imagesmith.artifacts.retry_policy import RetryPolicy
from imagesmith.distribution.push import Pushed, push_image
from imagesmith.distribution.push_request import PushFailed
from imagesmith.processes import Cancellation, Cancelled
from imagesmith.settings import Registry
from testing.network import free_port
from testing.registry_support import PASSWORD, USER, RunningRegistry, write_layout
from testing.socket_proxy import ManifestGate

pytestmark = pytest.mark.tool


@dataclass
class Pusher:
    """One layout, and what pushes of it said and slept."""

    layout: Path
    digest: str
    lines: list[str] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    on_sleep: Callable[[int], None] = lambda _: None
    on_line: Callable[[str], None] = lambda _: None

    def push(
        self,
        registry: Registry,
        *,
        repository: str = "team/app",
        tags: Sequence[str] = ("1",),
        attempts: int = 3,
        longest: float = 30.0,
        cancellation: Cancellation | None = None,
        digest: str = "",
        reference: str = "built",
    ) -> Pushed:
        return push_image(
            self.layout, reference, digest=digest or self.digest, registry=registry, repository=repository,
            tags=tags, retry_policy=RetryPolicy(attempts, longest, self._sleep), cancellation=cancellation,
            on_line=self._line,
        )  # fmt: skip

    def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.on_sleep(len(self.pauses))

    def _line(self, line: str) -> None:
        self.lines.append(line)
        self.on_line(line)


@pytest.fixture
def pusher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pusher:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    layout = tmp_path / "lay:out"
    return Pusher(layout, write_layout(layout, "built", content=str(tmp_path).encode()))


def plain(host: str) -> Registry:
    return Registry(url=host, insecure=True)


def with_login(host: str, folder: Path, password: str) -> Registry:
    file = folder / "password"
    file.write_text(password + "\n")
    return Registry(url=host, username=USER, password_file=str(file), insecure=True)


def stored(registry: RunningRegistry, repository: str, tag: str) -> str:
    manifest = registry.get(f"/v2/{repository}/manifests/{tag}")
    return f"sha256:{hashlib.sha256(manifest).hexdigest()}"


def test_every_tag_gets_the_same_digest(pusher: Pusher, open_registry: RunningRegistry) -> None:
    """All tags of a push are in the registry with the layout's digest, named in order, a repeated tag once."""
    registry = Registry(url=f"{open_registry.host}/mirror", insecure=True)
    pushed = pusher.push(registry, tags=["1.0.0-1", "latest", "1.0.0-1"])
    uri = f"{open_registry.host}/mirror/team/app"
    assert pushed == Pushed((f"{uri}:1.0.0-1", f"{uri}:latest"), pusher.digest, 1)
    assert stored(open_registry, "mirror/team/app", "latest") == pusher.digest
    assert stored(open_registry, "mirror/team/app", "1.0.0-1") == pusher.digest
    assert pusher.pauses == []
    assert any("Writing manifest" in line for line in pusher.lines)


def test_pushing_again_changes_nothing(pusher: Pusher, open_registry: RunningRegistry) -> None:
    """A push that is repeated, as after a crash, gives the same answer."""
    assert pusher.push(plain(open_registry.host)) == pusher.push(plain(open_registry.host))


def test_concurrent_pushes_of_different_images(open_registry: RunningRegistry, tmp_path: Path) -> None:
    """Pushes of different images at the same time to one repository all hold at the first attempt."""
    pushers = [
        Pusher(tmp_path / str(n), write_layout(tmp_path / str(n), "built", content=f"{tmp_path}{n}".encode()))
        for n in range(8)
    ]
    registry = plain(open_registry.host)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda n: pushers[n].push(registry, tags=[f"d{n}"]), range(8)))
    assert [result.attempts for result in results] == [1] * 8, [pusher.lines for pusher in pushers]
    assert [stored(open_registry, "team/app", f"d{n}") for n in range(8)] == [one.digest for one in pushers]


def test_concurrent_pushes_of_one_image(pusher: Pusher, open_registry: RunningRegistry) -> None:
    """Pushes of one image at the same time to tags of one repository all arrive.

    More than one attempt is right here: this registry now and then answers 500 (`invalid checksum digest format`)
    for a digest of a repository while another push writes the same digest there.
    """
    pusher.on_sleep = lambda _: time.sleep(0.1)
    registry = plain(open_registry.host)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: pusher.push(registry, tags=[f"c{n}"], attempts=10), range(8)))
    assert {stored(open_registry, "team/app", f"c{n}") for n in range(8)} == {pusher.digest}


def test_login_with_the_password_of_the_file(
    pusher: Pusher, login_registry: RunningRegistry, tmp_path: Path
) -> None:
    """A user and a password file open the registry; the credentials file is private and gone afterwards."""
    seen: list[tuple[int, int, str]] = []

    def look(_: str) -> None:
        for file in (tmp_path / "scratch").glob("*/auth.json"):
            modes = stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(file.parent.stat().st_mode)
            seen.append((*modes, file.read_text()))

    pusher.on_line = look
    assert pusher.push(with_login(login_registry.host, tmp_path, PASSWORD)).attempts == 1
    encoded = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    expected = {"auths": {login_registry.host: {"auth": encoded}}}
    assert {(file, folder) for file, folder, _ in seen} == {(0o600, 0o700)}
    assert json.loads(seen[0][2]) == expected
    assert list((tmp_path / "scratch").iterdir()) == []


def test_wrong_password_is_final_and_secret(
    pusher: Pusher, login_registry: RunningRegistry, tmp_path: Path
) -> None:
    """A refused login is not tried again, and neither message, log nor arguments hold the password."""
    wrong = "wrong-password-of-the-test"
    arguments: set[bytes] = set()
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            # children alone: a look at every process of a busy machine takes longer than the login
            with contextlib.suppress(OSError):
                for children in Path("/proc/self/task").glob("*/children"):
                    for child in children.read_text().split():
                        arguments.add(Path(f"/proc/{child}/cmdline").read_bytes())

    looking = threading.Thread(target=look)
    looking.start()
    try:
        with pytest.raises(PushFailed, match="after 1 attempt: ") as caught:
            pusher.push(with_login(login_registry.host, tmp_path, wrong))
    finally:
        over.set()
        looking.join()
    assert caught.value.permanent
    assert pusher.pauses == []
    text = str(caught.value) + "".join(pusher.lines)
    assert wrong not in text
    assert base64.b64encode(f"{USER}:{wrong}".encode()).decode() not in text
    assert f"check the user '{USER}'" in text
    assert any(b"skopeo" in line for line in arguments)
    assert not any(wrong.encode() in line for line in arguments)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_missing_login_says_which_settings(pusher: Pusher, login_registry: RunningRegistry) -> None:
    """Without a user the registry's refusal is final and names the settings to fill in."""
    with pytest.raises(PushFailed, match="set username and password_file") as caught:
        pusher.push(plain(login_registry.host))
    assert caught.value.permanent


def test_unreachable_registry_is_tried_to_the_limit(pusher: Pusher) -> None:
    """A closed port is tried `attempts` times with doubling pauses up to 30 s; the error names everything."""
    host = f"127.0.0.1:{free_port()}"
    with pytest.raises(PushFailed) as caught:
        pusher.push(plain(host), tags=["v1"], attempts=9)
    assert not caught.value.permanent
    assert pusher.pauses == [0.5, 1, 2, 4, 8, 16, 30, 30]
    text = str(caught.value)
    for part in (repr(host), "'team/app'", "'v1'", "9 attempts", "connection refused", "what to try: "):
        assert part in text


def test_registry_that_comes_up_later(pusher: Pusher, own_registry: RunningRegistry) -> None:
    """A push that begins before its registry succeeds with the attempt that finds it."""

    def start_at_second(count: int) -> None:
        if count == 2:
            own_registry.start()

    pusher.on_sleep = start_at_second
    assert pusher.push(plain(own_registry.host), attempts=5).attempts == 3
    assert stored(own_registry, "team/app", "1") == pusher.digest


def test_registry_that_dies_in_the_middle(pusher: Pusher, own_registry: RunningRegistry) -> None:
    """A registry killed between blobs and manifest fails that attempt; the next one, after its restart, holds."""
    own_registry.start()

    def die_once(count: int) -> bool:
        if count == 1:
            own_registry.kill()
        return count > 1

    pusher.on_sleep = lambda _: own_registry.start()
    gate = ManifestGate(own_registry.host, die_once)
    try:
        pushed = pusher.push(plain(gate.host), tags=["a", "b"])
    finally:
        gate.close()
    assert pushed.attempts == 2
    assert pusher.pauses == [0.5]
    assert stored(own_registry, "team/app", "a") == stored(own_registry, "team/app", "b") == pusher.digest


def test_registry_that_stays_dead(pusher: Pusher, own_registry: RunningRegistry) -> None:
    """A registry that dies in the middle and stays away ends in a failure that is not permanent."""
    own_registry.start()

    def die(_: int) -> bool:
        own_registry.kill()
        return False

    gate = ManifestGate(own_registry.host, die)
    try:
        with pytest.raises(PushFailed, match="2 attempts") as caught:
            pusher.push(plain(gate.host), attempts=2)
    finally:
        gate.close()
    assert not caught.value.permanent


def test_tag_moved_by_another_push_is_not_taken_back(
    pusher: Pusher, own_registry: RunningRegistry, tmp_path: Path
) -> None:
    """When the tag reads back as another image, the push fails and leaves the other image under the tag."""
    own_registry.start()
    other = Pusher(tmp_path / "other", write_layout(tmp_path / "other", "built", content=b"other"))

    def move(line: str) -> None:
        if "Storing signatures" in line:
            other.push(plain(own_registry.host))

    pusher.on_line = move
    with pytest.raises(PushFailed, match=f"the registry has {other.digest}"):
        pusher.push(plain(own_registry.host), attempts=3)
    assert stored(own_registry, "team/app", "1") == other.digest


def test_cancelled_while_skopeo_runs(pusher: Pusher, open_registry: RunningRegistry) -> None:
    """Cancelling ends a push whose registry does not answer, within a second or so, and leaves no file."""
    cancellation = Cancellation()
    over = threading.Event()

    def stall(_: int) -> bool:
        cancellation.cancel()
        over.wait(60)
        return False

    gate = ManifestGate(open_registry.host, stall)
    started = time.monotonic()
    try:
        with pytest.raises(Cancelled):
            pusher.push(plain(gate.host), cancellation=cancellation)
        assert time.monotonic() - started < 10
    finally:
        over.set()
        gate.close()
    assert list((pusher.layout.parent / "scratch").iterdir()) == []


def test_cancelled_while_waiting(pusher: Pusher) -> None:
    """Cancelling during the pause between attempts starts no further attempt."""
    cancellation = Cancellation()
    pusher.on_sleep = lambda _: cancellation.cancel()
    with pytest.raises(Cancelled):
        pusher.push(plain(f"127.0.0.1:{free_port()}"), cancellation=cancellation)
    assert pusher.pauses == [0.5]


def test_https_wanted_from_a_plain_registry(pusher: Pusher, open_registry: RunningRegistry) -> None:
    """Without `insecure` a registry on plain HTTP is refused for good, and the text names the setting."""
    with pytest.raises(PushFailed, match="insecure = true") as caught:
        pusher.push(Registry(url=open_registry.host))
    assert caught.value.permanent


@pytest.mark.parametrize(
    ("url", "repository", "tag"),
    [
        ("127.0.0.1:5000", "Team/app", "1"),
        ("127.0.0.1:5000", "team//app", "1"),
        ("127.0.0.1:5000", "../app", "1"),
        ("127.0.0.1:5000", "team/app:1", "1"),
        ("127.0.0.1:5000", "a" * 256, "1"),
        ("127.0.0.1:5000", "", "1"),
        ("127.0.0.1:5000", "app", "-x"),
        ("127.0.0.1:5000", "app", "x" * 129),
        ("127.0.0.1:5000", "app", "1\n"),
        ("127.0.0.1:5000", "app", ""),
        ("https://127.0.0.1:5000", "app", "1"),
        ("user@127.0.0.1:5000", "app", "1"),
        ("", "app", "1"),
        ("registry", "app", "1"),
    ],
)
def test_bad_names_are_refused_before_anything_is_sent(pusher: Pusher, url: str, repository: str, tag: str) -> None:
    """A name outside the grammar is a permanent failure that shows the name; no tool is started."""
    with pytest.raises(PushFailed, match="checking names") as caught:
        pusher.push(Registry(url=url, insecure=True), repository=repository, tags=[tag])
    assert caught.value.permanent
    assert not pusher.lines and not pusher.pauses


def test_layout_must_hold_the_digest(pusher: Pusher, open_registry: RunningRegistry) -> None:
    """A name that is absent from the layout, or names other content, is refused before the push."""
    for reference, digest in (("nope", pusher.digest), ("built", "sha256:" + "0" * 64)):
        with pytest.raises(PushFailed, match="reading the OCI layout") as caught:
            pusher.push(plain(open_registry.host), reference=reference, digest=digest)
        assert caught.value.permanent


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe", b"x" * 70000])
def test_password_file_that_cannot_be_used(pusher: Pusher, tmp_path: Path, content: bytes | None) -> None:
    """A password file that is missing, empty, binary or endless is a permanent failure that names the file."""
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    registry = Registry(url="127.0.0.1:1", username=USER, password_file=str(file), insecure=True)
    with pytest.raises(PushFailed, match=str(file)) as caught:
        pusher.push(registry)
    assert caught.value.permanent
