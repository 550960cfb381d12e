"""Push one image of an OCI layout to a registry under one or more tags, and see that it really is there.

    names checked -> credentials file -> for each tag: copied -> verified -> Pushed
                                            ^                |
                                            +--- back-off ---+  transient failure, attempts left

An attempt goes on with the tags that are still open; a tag that was verified is not touched again. A tag that was
copied and reads back as another digest is only read again, never copied again: a cache may be late, but if another
push moved the tag, copying would take it away from that push.

The password is read from its file into a credentials file (0600, in a private folder that lives as long as the
push); it is never an argument, and is cut out of every line that is logged or raised.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from imagesmith.distribution.refusals import is_permanent, what_to_try
from imagesmith.processes import Cancellation, Completed, Stream, host_environment, run
from imagesmith.settings import Registry

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
"""Seconds between attempts: doubling from the first to the longest."""

DEFAULT_TIMEOUT = 3600.0
"""Seconds that one copy may take."""

_INSPECT_TIMEOUT = 120.0
_MAX_PASSWORD = 64 * 1024
_MAX_MANIFEST = 8 * 1024 * 1024
_MAX_INDEX = 16 * 1024 * 1024
_MAX_LINE = 4096
_TAIL_LINES = 5

_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REGISTRY = re.compile(rf"({_HOST})((?:/{_COMPONENT})*)/?")
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MAX_REPOSITORY = 255


@dataclass(frozen=True)
class Pushed:
    """`uris` in the order of the tags; `attempts` counts the tries that were needed, 1 when the first one held."""

    uris: tuple[str, ...]
    digest: str
    attempts: int


class PushFailed(RuntimeError):
    """An image that did not reach its registry; `permanent` when trying again unchanged cannot help."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


@dataclass(frozen=True)
class _Failure:
    """One try that failed: what was done, its last words without secrets, whether another try may help."""

    doing: str
    output: str
    permanent: bool
    hint: str


@dataclass(frozen=True)
class _Push:
    """Everything about one push that stays the same over its attempts."""

    layout: Path
    reference: str
    digest: str
    registry: Registry
    repository: str
    tags: tuple[str, ...]
    attempts: int
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
    """The file for skopeo, and the words that no log may hold."""

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
    attempts: int,
    sleep: Callable[[float], None],
    cancellation: Cancellation | None,
    on_line: Callable[[str], None],
    environment: Mapping[str, str] | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    scratch: Path | None = None,
) -> Pushed:
    """Push the image that `layout` names `reference` and whose manifest is `digest` (`sha256:...`).

    `attempts` is the number of tries in all, at least 1; `sleep` gets the seconds between them; `on_line` gets
    every line of output and one line per failed try. `environment` is added to the short environment of host
    tools; `timeout` bounds one copy, in seconds; the credentials lie in `scratch` while the push runs (None: the
    machine's temporary folder, where a kill -9 would leave them). Raises PushFailed, and Cancelled when
    `cancellation` is requested.
    """
    push = _Push(
        layout, reference, digest, registry, repository, tuple(dict.fromkeys(tags)), max(attempts, 1),
        cancellation, on_line, environment, timeout, scratch,
    )  # fmt: skip
    problem = _name_problem(push) or _layout_problem(push)
    if problem is not None:
        push.fail(problem, tag="", attempt=0)
    with _credentials(push) as credentials:
        used = _attempt_all(push, credentials, sleep)
    return Pushed(tuple(f"{push.target}:{tag}" for tag in push.tags), digest, used)


def _attempt_all(push: _Push, credentials: _Credentials, sleep: Callable[[float], None]) -> int:
    """Try until every tag is verified; the number of tries. Raises PushFailed."""
    copied: set[str] = set()
    verified: set[str] = set()
    attempt = 1
    while True:
        tag, failure = _attempt(push, credentials, copied, verified)
        if failure is None:
            return attempt
        if failure.permanent or attempt >= push.attempts:
            push.fail(failure, tag=tag, attempt=attempt)
        pause = min(FIRST_PAUSE * 2 ** min(attempt - 1, 16), LONGEST_PAUSE)
        push.on_line(
            f"push of {push.target}:{tag}: attempt {attempt} of {push.attempts} failed: {failure.doing}: "
            f"{failure.output}; next in {pause:g} s"
        )
        sleep(pause)
        if push.cancellation is not None:
            push.cancellation.check()
        attempt += 1


def _attempt(
    push: _Push, credentials: _Credentials, copied: set[str], verified: set[str]
) -> tuple[str, _Failure | None]:
    """Go on with the open tags; the tag that failed and how, or ("", None) when all are verified."""
    for tag in push.tags:
        if tag in verified:
            continue
        if tag not in copied:
            failure = _copy(push, credentials, tag)
            if failure is not None:
                return tag, failure
            copied.add(tag)
        found, failure = _registry_digest(push, credentials, tag)
        if failure is not None:
            copied.discard(tag)
            return tag, failure
        if found != push.digest:
            return tag, _Failure(
                "reading the tag back", f"the registry has {found}, pushed was {push.digest}", False,
                "see whether another push uses this tag, or whether the registry rewrites manifests",
            )  # fmt: skip
        verified.add(tag)
    return "", None


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
    """The digest of the manifest that the registry gives for a tag, computed here from its bytes."""
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
    return f"sha256:{hashlib.sha256(completed.stdout).hexdigest()}", failure


def _failure(
    doing: str, completed: Completed, credentials: _Credentials, registry: Registry, *, reading: bool = False
) -> _Failure | None:
    if completed.returncode == 0 and not completed.timed_out:
        return None
    output = completed.tail(_TAIL_LINES)
    if completed.timed_out:
        output = f"no end after {completed.seconds:.0f} s\n{output}".rstrip()
    missing_tool = completed.returncode in (126, 127)
    return _Failure(
        doing,
        credentials.hide(output) or f"exit status {completed.returncode}",
        missing_tool or (not completed.timed_out and is_permanent(output, reading=reading)),
        "install skopeo" if missing_tool else what_to_try(output, registry),
    )


def _name_problem(push: _Push) -> _Failure | None:
    """What is wrong with the names of a push before anything is sent."""
    found = _REGISTRY.fullmatch(push.registry.url)
    hint = "correct the name: registries are host[:port][/path], repositories and paths are lower case"
    if found is None:
        return _Failure("checking names", f"registry {push.registry.url!r} is not host[:port][/path]", True, hint)
    host = found[1]
    if not (set(".:") & set(host) or host == "localhost"):
        # skopeo takes such a first part for a user of Docker Hub and would send the image there.
        return _Failure(
            "checking names", f"registry host {host!r} has no dot and no port", True, f"write {host}:443"
        )
    if not _REPOSITORY.fullmatch(push.repository) or len(found[2]) + len(push.repository) > _MAX_REPOSITORY:
        return _Failure("checking names", f"repository {push.repository!r} is not a repository name", True, hint)
    if not push.tags:
        return _Failure("checking names", "no tag was given", True, "give at least one tag")
    for tag in push.tags:
        if not _TAG.fullmatch(tag):
            rule = "use 1 to 128 letters, digits, '_', '.', '-'; not '.' or '-' first"
            return _Failure("checking names", f"tag {tag!r} is not a tag", True, rule)
    if not _DIGEST.fullmatch(push.digest):
        return _Failure(
            "checking names", f"{push.digest!r} is not a digest", True, "give sha256: and 64 hex digits"
        )
    return None


def _layout_problem(push: _Push) -> _Failure | None:
    """Whether the layout really gives this digest under this name."""
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
    """The credentials file while the push runs. Without a user name it is empty, so no other file is looked at."""
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
        # A UnicodeDecodeError quotes a byte of the password: name the class only.
        words = str(error) if isinstance(error, OSError) else f"password file {registry.password_file}: not UTF-8"
        push.fail(_Failure(doing, words, True, hint), tag="", attempt=0)
    if not password or len(data) > _MAX_PASSWORD:
        words = f"password file {registry.password_file} is empty or longer than {_MAX_PASSWORD} bytes"
        push.fail(_Failure(doing, words, True, hint), tag="", attempt=0)
    return password


class _Lines:
    """Both streams of a program as whole lines, each cut at a bounded length."""

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
