"""Running documents from the command line: with what, and what becomes of it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from imagesmith.cli.component_place import RestartNeeded, instance_place
from imagesmith.cli.component_view import Several, StepView, show_ending, show_problems
from imagesmith.cli.context import CommandFailed, print_json, settings_of
from imagesmith.components.grammar import Parsed, parse_component
from imagesmith.components.journal import FileJournal, Journal
from imagesmith.components.logs import LogFolder
from imagesmith.components.managed import ManagedDocuments
from imagesmith.components.model import ComponentDocument
from imagesmith.components.reporting import NullReporter
from imagesmith.components.results import ExecutionResult
from imagesmith.components.runner import DocumentRun, RunOptions, run_documents, unfinished_execution
from imagesmith.components.services import S3Config, Services, SystemClock
from imagesmith.instances.protocol import Instance
from imagesmith.processes import Cancellation, Cancelled
from imagesmith.settings import Settings

RESTART_STATUS = 194
"""Exit status that asks for a restart, as the service's own agent understands it (spec/components.md 11.1)."""


@dataclass(frozen=True)
class RunRequest:
    """What the command line asks for."""

    files: tuple[Path, ...]
    place: str
    phases: tuple[str, ...] | None
    parameters: dict[str, str]
    secrets: frozenset[str]
    data_dir: Path
    working_directory: str | None
    log_directory: Path | None
    state_directory: Path | None
    execution_id: str
    as_json: bool
    verbose: bool


@dataclass
class Loaded:
    """The documents of one run, as they are on disk now."""

    texts: list[str]
    parsed: list[Parsed]

    @property
    def documents(self) -> list[ComponentDocument]:
        return [item.document for item in self.parsed if item.document is not None]

    @property
    def usable(self) -> bool:
        return all(item.document is not None for item in self.parsed)


def load(files: Sequence[Path], *, platform: str = "Linux", blocked: frozenset[str] = frozenset()) -> Loaded:
    """Read and check documents. Raises CommandFailed for a file that cannot be read."""
    texts: list[str] = []
    parsed: list[Parsed] = []
    for path in files:
        try:
            data = path.read_bytes()
        except OSError as error:
            raise CommandFailed(f"{path} cannot be read: {error.strerror}") from error
        texts.append(data.decode("utf-8", "replace"))
        parsed.append(parse_component(data, platform=platform, blocked=blocked))
    return Loaded(texts, parsed)


def show_loaded(files: Sequence[Path], loaded: Loaded) -> None:
    for path, text, parsed in zip(files, loaded.texts, loaded.parsed, strict=True):
        show_problems(str(path), text, parsed.problems)


def run_once(request: RunRequest) -> int:
    """Run and give the exit status."""
    loaded = load(request.files)
    if not loaded.usable:
        return _refused(request, loaded)
    if not request.as_json:
        show_loaded(request.files, loaded)
    journal = _journal(request)
    cancellation = Cancellation()
    try:
        with interruptible(cancellation), place_of(request, cancellation) as instance:
            result = run_loaded(request, loaded, instance, cancellation, journal=journal)
    except RestartNeeded:
        click.echo("this computer must restart; run the same command again afterwards, and it goes on", err=True)
        return RESTART_STATUS
    return 0 if result.status == "success" else 1


def _refused(request: RunRequest, loaded: Loaded) -> int:
    """Documents with errors: nothing runs."""
    if not request.as_json:
        show_loaded(request.files, loaded)
        click.secho("nothing was run: the documents have errors", fg="red")
        return 1
    bad = [str(path) for path, item in zip(request.files, loaded.parsed, strict=True) if item.document is None]
    print_json(
        {
            "executionId": request.execution_id or str(uuid.uuid4()),
            "status": "failed",
            "failedStepCount": 0,
            "executedStepCount": 0,
            "ignoredFailedStepCount": 0,
            "skippedStepCount": 0,
            "failureMessage": "; ".join(f"Document {path} failed!" for path in bad),
            "logUrl": "",
        }
    )
    return 1


def document_runs(request: RunRequest, loaded: Loaded) -> list[DocumentRun]:
    return [
        DocumentRun(document, str(path), request.parameters, request.secrets)
        for path, document in zip(request.files, loaded.documents, strict=True)
    ]


def run_loaded(
    request: RunRequest,
    loaded: Loaded,
    instance: Instance,
    cancellation: Cancellation,
    *,
    journal: Journal | None = None,
    listener: NullReporter | None = None,
) -> ExecutionResult:
    settings = settings_of(request.data_dir)
    runs = document_runs(request, loaded)
    unfinished = unfinished_execution(journal, runs, request.phases) if journal is not None else ""
    execution_id = unfinished or request.execution_id or str(uuid.uuid4())
    clock = SystemClock()
    view = StepView(quiet=request.as_json, verbose=request.verbose)
    logs = None
    if request.log_directory is not None:
        try:
            logs = LogFolder(request.log_directory, execution_id, clock=clock, resumed=bool(unfinished))
        except OSError as error:
            raise CommandFailed(f"the log folder cannot be made: {error}") from error
        logs.documents(loaded.texts)
    try:
        result = run_documents(
            runs,
            instance,
            phases=request.phases,
            clock=clock,
            ids=lambda: str(uuid.uuid4()),
            options=RunOptions(
                execution_id=execution_id,
                working_directory=request.working_directory,
                services=_services(request, settings),
                account=settings.account,
                region=settings.region,
                log_url=str(logs.path) if logs else "",
            ),
            reporter=Several(view, *([logs] if logs else []), *([listener] if listener else [])),
            cancellation=cancellation,
            journal=journal,
        )
        if logs is not None:
            logs.finish(result)
    finally:
        if logs is not None:
            logs.close()
    if request.as_json:
        print_json(result.summary())
    else:
        show_ending(result, loaded.texts)
    return result


def _journal(request: RunRequest) -> Journal | None:
    """The state of an interrupted run; a container does not outlive its run, so it has none."""
    folder = request.state_directory
    if folder is None:
        return None
    if request.place != "host":
        raise CommandFailed("--state-directory is for --on host: a container is gone when its run is")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise CommandFailed(f"the state directory cannot be made: {error}") from error
    return FileJournal(folder / "state.jsonl")


def _services(request: RunRequest, settings: Settings) -> Services:
    secret = ""
    if settings.s3_secret_key_file:
        try:
            secret = Path(settings.s3_secret_key_file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise CommandFailed(f"the S3 key file cannot be read: {error}") from error
    s3 = S3Config(settings.s3_endpoint_url, settings.region, settings.s3_access_key_id, secret)
    # On this computer a document can reach everything anyway; in a container it must not gain the worker's place.
    return Services(
        components=ManagedDocuments(),
        s3=s3,
        loopback_downloads=request.place == "host",
        download_cache=request.data_dir / "authoring" / "downloads",
    )


def place_of(request: RunRequest, cancellation: Cancellation) -> AbstractContextManager[Instance]:
    """The instance that a request asks for, gone afterwards. Entering it raises CommandFailed."""

    def say(line: str) -> None:
        if not request.as_json:
            click.secho(line, fg="bright_black")

    restarts = request.state_directory is not None
    return instance_place(request.place, request.data_dir, restarts=restarts, say=say, cancellation=cancellation)


@contextmanager
def interruptible(cancellation: Cancellation) -> Iterator[None]:
    """Ctrl-C ends what runs and lets the instance be removed, then the command ends."""
    import signal

    before = signal.signal(signal.SIGINT, lambda *_: cancellation.cancel())
    try:
        yield
    except Cancelled as ended:
        raise click.Abort from ended
    finally:
        signal.signal(signal.SIGINT, before)
