"""Pushes one image of an OCI layout to a registry under one or more tags, and verifies it there.

    names checked -> credentials file -> for each tag: copied -> verified -> Pushed
                                            ^                |
                                            +--- back-off ---+  transient failure, attempts left

An attempt continues with the open tags; a verified tag is not touched again. A tag that was copied and reads back
as another digest is only read again, never copied again: a cache may be late, but if another push moved the tag,
copying would undo that push.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagesmith.artifacts.oci import digest_of
from imagesmith.artifacts.refusals import is_permanent, what_to_try
from imagesmith.artifacts.retry_policy import RetryPolicy, asked_pause
from imagesmith.distribution.line_splitter import LineSplitter
from imagesmith.distribution.push_checks import layout_problem, name_problem
from imagesmith.distribution.push_credentials import Credentials, credentials_file
from imagesmith.distribution.push_request import AttemptFailure, Push
from imagesmith.processes import Cancellation, Completed, host_environment, run
from imagesmith.retries import Failure
from imagesmith.settings import Registry

DEFAULT_TIMEOUT = 3600.0
"""Time limit of one copy in seconds."""

_INSPECT_TIMEOUT = 120.0
_MAX_MANIFEST = 8 * 1024 * 1024
_TAIL_LINES = 5


@dataclass(frozen=True)
class Pushed:
    """A completed push: `uris` in the order of the tags; `attempts` is 1 if the first attempt succeeded."""

    uris: tuple[str, ...]
    digest: str
    attempts: int


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
    push = Push(
        layout=layout, reference=reference, digest=digest, registry=registry, repository=repository,
        tags=tuple(dict.fromkeys(tags)), retry_policy=retry_policy, cancellation=cancellation, on_line=on_line,
        environment=environment, timeout=timeout, scratch=scratch,
    )  # fmt: skip
    problem = name_problem(push) or layout_problem(push)
    if problem is not None:
        push.fail(problem, tag="", attempt=0)
    with credentials_file(push) as credentials:
        used = _attempt_all(push, credentials)
    return Pushed(tuple(f"{push.target}:{tag}" for tag in push.tags), digest, used)


class _AttemptFailed(Exception):
    """An attempt did not verify all tags: the failed tag, and its failure."""

    def __init__(self, tag: str, failure: AttemptFailure) -> None:
        super().__init__(failure.output)
        self.tag = tag
        self.failure = failure


def _attempt_all(push: Push, credentials: Credentials) -> int:
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


def _attempt(push: Push, credentials: Credentials, copied: set[str], verified: set[str]) -> None:
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
            raise _AttemptFailed(tag, AttemptFailure(
                "reading the tag back", f"the registry has {found}, pushed was {push.digest}", False,
                "check whether another push uses this tag, or whether the registry rewrites manifests",
            ))  # fmt: skip
        verified.add(tag)


def _copy(push: Push, credentials: Credentials, tag: str) -> AttemptFailure | None:
    # The layout is the working folder: skopeo ends the path of `oci:` at the first colon.
    argv = [
        "skopeo", "--insecure-policy", "copy", "--all", "--preserve-digests",
        "--dest-authfile", str(credentials.file),
        *(["--dest-tls-verify=false"] if push.registry.insecure else []),
        f"oci:.:{push.reference}", f"docker://{push.target}:{tag}",
    ]  # fmt: skip
    lines = LineSplitter(lambda line: push.on_line(credentials.hide(line)))
    completed = run(
        argv, cwd=push.layout, env=host_environment(push.environment), timeout=push.timeout,
        on_output=lines.add, cancellation=push.cancellation,
    )  # fmt: skip
    lines.end()
    return _failure("copying the image", completed, credentials, push.registry)


def _registry_digest(push: Push, credentials: Credentials, tag: str) -> tuple[str, AttemptFailure | None]:
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
    doing: str, completed: Completed, credentials: Credentials, registry: Registry, *, reading: bool = False
) -> AttemptFailure | None:
    if completed.returncode == 0 and not completed.timed_out:
        return None
    output = completed.tail(_TAIL_LINES)
    if completed.timed_out:
        output = f"did not end within {completed.seconds:.0f} s\n{output}".rstrip()
    missing_tool = completed.returncode in (126, 127)
    return AttemptFailure(
        doing,
        credentials.hide(output) or f"exit status {completed.returncode}",
        missing_tool or (not completed.timed_out and is_permanent(output, reading=reading)),
        "install skopeo" if missing_tool else what_to_try(output, registry),
    )
