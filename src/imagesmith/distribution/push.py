"""Pushes one image of an OCI layout to a registry under one or more tags, and verifies it there.

    names checked -> credentials file -> for each tag: copied -> verified -> Pushed
                                            ^                |
                                            +--- back-off ---+  transient failure, attempts left

An attempt continues with the open tags; a verified tag is not touched again. A tag that was copied and reads back
as another digest is only read again, never copied again: a cache may be late, but if another push moved the tag,
copying would undo that push.

The password is read from its file into a credentials file (0600, in a private folder that exists during the push);
it is never an argument, and is removed from every line that is logged or raised.
"""

from __future__ import annotations

import base64
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from imagesmith.artifacts.oci import digest_of
from imagesmith.artifacts.refusals import is_permanent, what_to_try
from imagesmith.artifacts.retry_policy import RetryPolicy, asked_pause
from imagesmith.distribution.failures import DeliveryFailed
from imagesmith.processes import Cancellation, Completed, Stream, host_environment, run
from imagesmith.retries import Failure
from imagesmith.settings import Registry
from imagesmith.values.repositories import COMPONENT, MOST_CHARACTERS, repository_problem, tag_problem

DEFAULT_TIMEOUT = 3600.0
"""Time limit of one copy in seconds."""

_INSPECT_TIMEOUT = 120.0
_MAX_PASSWORD = 64 * 1024
_MAX_MANIFEST = 8 * 1024 * 1024
_MAX_INDEX = 16 * 1024 * 1024
_MAX_LINE = 4096
_TAIL_LINES = 5

_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
_REGISTRY = re.compile(rf"({_HOST})((?:/{COMPONENT})*)/?")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Pushed:
    """A completed push: `uris` in the order of the tags; `attempts` is 1 if the first attempt succeeded."""

    uris: tuple[str, ...]
    digest: str
    attempts: int


class PushFailed(DeliveryFailed):
    """An image did not reach its registry; `permanent`: an unchanged retry cannot help."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


@dataclass(frozen=True)
class _Failure:
    """One failed attempt: its action, its output without secrets, and whether a retry cannot help."""

    doing: str
    output: str
    permanent: bool
    hint: str


@dataclass(frozen=True)
class _Push:
    """The constant inputs of one push."""

    layout: Path
    reference: str
    digest: str
    registry: Registry
    repository: str
    tags: tuple[str, ...]
    retry_policy: RetryPolicy
    cancellation: Cancellation | None
    on_line: Callable[[str], None]
    environment: Mapping[str, str] | None
    timeout: float
    scratch: Path | None

    @property
    def target(self) -> str:
        return f"{self.registry.url.rstrip('/')}/{self.repository}"

    def fail(self, failure: _Failure, *, tag: str, attempt: int) -> NoReturn:
        tries = {0: "before any attempt", 1: "after 1 attempt"}.get(attempt, f"after {attempt} attempts")
        named = f"tag {tag!r}" if tag else f"tags {list(self.tags)!r}"
        raise PushFailed(
            f"push to registry {self.registry.url!r}, repository {self.repository!r}, {named} failed {tries}: "
            f"{failure.doing}: {failure.output or 'no output'}\nwhat to try: {failure.hint}",
            permanent=failure.permanent,
        )


@dataclass(frozen=True)
class _Credentials:
    """The credentials file for skopeo, and the secrets that logs must not hold."""

    file: Path
    secrets: tuple[str, ...]

    def hide(self, text: str) -> str:
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return text


def push_image(
    layout: Path,
    reference: str,
    *,
    digest: str,
    registry: Registry,
    repository: str,
    tags: Sequence[str],
    retry_policy: RetryPolicy,
    cancellation: Cancellation | None,
    on_line: Callable[[str], None],
    environment: Mapping[str, str] | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    scratch: Path | None = None,
) -> Pushed:
    """Push the image that `layout` names `reference` and whose manifest is `digest` (`sha256:...`).

    `retry_policy` limits attempts and pauses; `on_line` gets every line of output and one line per failed attempt.
    `environment` is added to the short environment of host tools; `timeout` bounds one copy, in seconds; the
    credentials are in `scratch` during the push (None: the machine's temporary folder, where a kill -9 would
    leave them). Raises PushFailed, and Cancelled when `cancellation` is requested.
    """
    push = _Push(
        layout=layout,
        reference=reference,
        digest=digest,
        registry=registry,
        repository=repository,
        tags=tuple(dict.fromkeys(tags)),
        retry_policy=retry_policy,
        cancellation=cancellation,
        on_line=on_line,
        environment=environment,
        timeout=timeout,
        scratch=scratch,
    )
    problem = _name_problem(push) or _layout_problem(push)
    if problem is not None:
        push.fail(problem, tag="", attempt=0)
    with _credentials(push) as credentials:
        used = _attempt_all(push, credentials)
    return Pushed(tuple(f"{push.target}:{tag}" for tag in push.tags), digest, used)


class _AttemptFailed(Exception):
    """An attempt did not verify all tags: the failed tag, and its failure."""

    def __init__(self, tag: str, failure: _Failure) -> None:
        super().__init__(failure.output)
        self.tag = tag
        self.failure = failure


def _attempt_all(push: _Push, credentials: _Credentials) -> int:
    """Repeat attempts until every tag is verified; returns their number. Raises PushFailed."""
    attempts = 0
    copied: set[str] = set()
    verified: set[str] = set()

    def attempt() -> None:
        nonlocal attempts
        attempts += 1
        if push.cancellation is not None:
            push.cancellation.check()
        _attempt(push, credentials, copied, verified)

    def ask_pause(_: Failure) -> float:
        host, _slash, path = push.target.partition("/")
        return asked_pause(host, path, push.registry)

    def log(failed: Failure, pause: float) -> None:
        assert isinstance(failed.error, _AttemptFailed)
        tag, failure = failed.error.tag, failed.error.failure
        push.on_line(
            f"push of {push.target}:{tag}: attempt {failed.attempt} of {push.retry_policy.attempts} failed: "
            f"{failure.doing}: {failure.output}; next in {pause:g} s"
        )

    try:
        push.retry_policy.retrying(attempt, retry=_is_retryable, asked=ask_pause, before_retry=log)
    except _AttemptFailed as error:
        push.fail(error.failure, tag=error.tag, attempt=attempts)
    return attempts


def _is_retryable(failed: Failure) -> bool:
    return isinstance(failed.error, _AttemptFailed) and not failed.error.failure.permanent


def _attempt(push: _Push, credentials: _Credentials, copied: set[str], verified: set[str]) -> None:
    """Copy and verify the open tags. Raises _AttemptFailed."""
    for tag in push.tags:
        if tag in verified:
            continue
        if tag not in copied:
            failure = _copy(push, credentials, tag)
            if failure is not None:
                raise _AttemptFailed(tag, failure)
            copied.add(tag)
        found, failure = _registry_digest(push, credentials, tag)
        if failure is not None:
            copied.discard(tag)
            raise _AttemptFailed(tag, failure)
        if found != push.digest:
            raise _AttemptFailed(tag, _Failure(
                "reading the tag back", f"the registry has {found}, pushed was {push.digest}", False,
                "check whether another push uses this tag, or whether the registry rewrites manifests",
            ))  # fmt: skip
        verified.add(tag)


def _copy(push: _Push, credentials: _Credentials, tag: str) -> _Failure | None:
    # The layout is the working folder: skopeo ends the path of `oci:` at the first colon.
    argv = [
        "skopeo", "--insecure-policy", "copy", "--all", "--preserve-digests",
        "--dest-authfile", str(credentials.file),
        *(["--dest-tls-verify=false"] if push.registry.insecure else []),
        f"oci:.:{push.reference}", f"docker://{push.target}:{tag}",
    ]  # fmt: skip
    lines = _Lines(lambda line: push.on_line(credentials.hide(line)))
    completed = run(
        argv, cwd=push.layout, env=host_environment(push.environment), timeout=push.timeout,
        on_output=lines.add, cancellation=push.cancellation,
    )  # fmt: skip
    lines.end()
    return _failure("copying the image", completed, credentials, push.registry)


def _registry_digest(push: _Push, credentials: _Credentials, tag: str) -> tuple[str, _Failure | None]:
    """The digest of the registry's manifest for a tag, computed here from its bytes."""
    argv = [
        "skopeo", "inspect", "--raw", "--authfile", str(credentials.file),
        *(["--tls-verify=false"] if push.registry.insecure else []),
        f"docker://{push.target}:{tag}",
    ]  # fmt: skip
    completed = run(
        argv, env=host_environment(push.environment), timeout=_INSPECT_TIMEOUT, cancellation=push.cancellation,
        limit=_MAX_MANIFEST,
    )  # fmt: skip
    failure = _failure("reading the tag back", completed, credentials, push.registry, reading=True)
    return digest_of(completed.stdout), failure


def _failure(
    doing: str, completed: Completed, credentials: _Credentials, registry: Registry, *, reading: bool = False
) -> _Failure | None:
    if completed.returncode == 0 and not completed.timed_out:
        return None
    output = completed.tail(_TAIL_LINES)
    if completed.timed_out:
        output = f"did not end within {completed.seconds:.0f} s\n{output}".rstrip()
    missing_tool = completed.returncode in (126, 127)
    return _Failure(
        doing,
        credentials.hide(output) or f"exit status {completed.returncode}",
        missing_tool or (not completed.timed_out and is_permanent(output, reading=reading)),
        "install skopeo" if missing_tool else what_to_try(output, registry),
    )


def _name_problem(push: _Push) -> _Failure | None:
    """A problem with the names of a push, found before anything is sent."""
    found = _REGISTRY.fullmatch(push.registry.url)
    hint = "correct the name: registries are host[:port][/path], repositories and paths are lower case"
    if found is None:
        return _Failure("checking names", f"registry {push.registry.url!r} is not host[:port][/path]", True, hint)
    host = found[1]
    if not (set(".:") & set(host) or host == "localhost"):
        # skopeo would read such a first part as a user of Docker Hub and send the image there.
        return _Failure(
            "checking names", f"registry host {host!r} has no dot and no port", True, f"write {host}:443"
        )
    too_long = len(found[2]) + len(push.repository) > MOST_CHARACTERS
    if repository_problem(push.repository) or too_long:
        return _Failure("checking names", f"repository {push.repository!r} is not a repository name", True, hint)
    if not push.tags:
        return _Failure("checking names", "no tag was given", True, "name at least one tag")
    for tag in push.tags:
        if tag_problem(tag):
            rule = "use 1 to 128 letters, digits, '_', '.', '-'; not '.' or '-' first"
            return _Failure("checking names", f"tag {tag!r} is not a tag", True, rule)
    if not _DIGEST.fullmatch(push.digest):
        return _Failure("checking names", f"{push.digest!r} is not a digest", True, "use sha256: and 64 hex digits")
    return None


def _layout_problem(push: _Push) -> _Failure | None:
    """A problem if the layout does not have this digest under this name."""
    doing, hint = (
        f"reading the OCI layout {push.layout}",
        "build the image again; its layout is damaged or was moved",
    )
    try:
        with (push.layout / "index.json").open("rb") as file:
            index = json.loads(file.read(_MAX_INDEX))
        named = [
            entry["digest"]
            for entry in index["manifests"]
            if (entry.get("annotations") or {}).get("org.opencontainers.image.ref.name") == push.reference
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return _Failure(doing, f"{type(error).__name__}: {error}", True, hint)
    if named != [push.digest]:
        return _Failure(doing, f"name {push.reference!r} is {named or 'absent'}, not {push.digest}", True, hint)
    return None


@contextmanager
def _credentials(push: _Push) -> Iterator[_Credentials]:
    """The credentials file during the push. It is empty without a user name, so skopeo reads no other file."""
    auths: dict[str, dict[str, str]] = {}
    secrets: tuple[str, ...] = ()
    if push.registry.username or push.registry.password_file:
        password = _password(push)
        encoded = base64.b64encode(f"{push.registry.username}:{password}".encode()).decode()
        auths[push.registry.url.split("/", 1)[0]] = {"auth": encoded}
        secrets = (encoded, password)
    with tempfile.TemporaryDirectory(prefix="imagesmith-push-", dir=push.scratch) as folder:
        file = Path(folder) / "auth.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps({"auths": auths}), encoding="ascii")
        yield _Credentials(file, secrets)


def _password(push: _Push) -> str:
    registry = push.registry
    doing, hint = "reading the credentials", "set username and password_file of this registry in the settings"
    if not registry.username or ":" in registry.username or not registry.password_file:
        words = f"username {registry.username!r} with password_file {registry.password_file!r} cannot be used"
        push.fail(_Failure(doing, words, True, hint), tag="", attempt=0)
    try:
        with Path(registry.password_file).open("rb") as file:
            data = file.read(_MAX_PASSWORD + 1)
        password = data.decode().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        # A UnicodeDecodeError quotes a byte of the password: do not show its text.
        words = str(error) if isinstance(error, OSError) else f"password file {registry.password_file}: not UTF-8"
        push.fail(_Failure(doing, words, True, hint), tag="", attempt=0)
    if not password or len(data) > _MAX_PASSWORD:
        words = f"password file {registry.password_file} is empty or longer than {_MAX_PASSWORD} bytes"
        push.fail(_Failure(doing, words, True, hint), tag="", attempt=0)
    return password


class _Lines:
    """Joins both output streams of a program into whole lines, each cut at a bounded length."""

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._rest: dict[Stream, bytes] = {"stdout": b"", "stderr": b""}

    def add(self, stream: Stream, chunk: bytes) -> None:
        *lines, rest = (self._rest[stream] + chunk).split(b"\n")
        self._rest[stream] = rest[:_MAX_LINE]
        for line in lines:
            self._send(line)

    def end(self) -> None:
        for line in self._rest.values():
            self._send(line)

    def _send(self, line: bytes) -> None:
        text = line[:_MAX_LINE].decode(errors="replace").rstrip()
        if text:
            self._on_line(text)
