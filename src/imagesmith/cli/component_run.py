"""Runs documents from the command line: services, journal and result."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import click
from sqlalchemy.engine import Connection

from imagesmith.accounts.secret_box import open_existing
from imagesmith.builds.instance_metadata import InstanceMetadata
from imagesmith.builds.instances import instance_id
from imagesmith.cli.authoring import instance_name
from imagesmith.cli.component_documents import (
    LoadedComponents,
    RunRequest,
    check_parameters,
    load,
    problems_member,
    show_loaded,
    unknown_phases,
)
from imagesmith.cli.component_instance import RestartNeeded, open_instance
from imagesmith.cli.component_view import Several, StepView, show_ending
from imagesmith.cli.context import CommandFailed, print_json, settings_of
from imagesmith.cli.screen import echo
from imagesmith.cli.store import opened_store
from imagesmith.components.journal import FileJournal, StepJournal
from imagesmith.components.logs import LogFolder
from imagesmith.components.managed import ManagedDocuments
from imagesmith.components.reporting import NullReporter
from imagesmith.components.results import ExecutionResult
from imagesmith.components.runner import DocumentRun, RunOptions, run_documents, unfinished_execution
from imagesmith.components.services import Clock, NoMetadata, NotConfigured, S3Config, Services, SystemClock
from imagesmith.components.stored_parameters import StoredParameters
from imagesmith.instances.protocol import Instance
from imagesmith.processes import Cancellation, Cancelled
from imagesmith.settings import Settings

RESTART_STATUS = 194
"""Exit status that requests a restart, as the service's own agent defines it (spec/components.md 11.1)."""


def run_once(request: RunRequest) -> int:
    """Run and return the exit status."""
    loaded = load(request.files)
    if not loaded.usable:
        return _refused(request, loaded)
    check_parameters(request, loaded)
    if not request.as_json:
        show_loaded(request.files, loaded)
    for line in unknown_phases(request, loaded):
        echo(f"warning: {line}", fg="yellow", err=True)
    journal = _journal(request)
    cancellation = Cancellation()
    try:
        with interruptible(cancellation), instance_of(request, cancellation) as instance:
            result = run_loaded(request, loaded, instance, cancellation, journal=journal)
    except RestartNeeded:
        echo("this computer must restart; run the same command again afterwards to continue", err=True)
        return RESTART_STATUS
    return 0 if result.status == "success" else 1


def _refused(request: RunRequest, loaded: LoadedComponents) -> int:
    """Report documents with errors; nothing runs."""
    if not request.as_json:
        show_loaded(request.files, loaded)
        echo("nothing was run: the documents have errors", fg="red")
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
            **problems_member(request.files, loaded),
        }
    )
    return 1


def document_runs(request: RunRequest, loaded: LoadedComponents) -> list[DocumentRun]:
    return [
        DocumentRun(document, str(path), request.parameters, request.secrets)
        for path, document in zip(request.files, loaded.documents, strict=True)
    ]


def run_loaded(
    request: RunRequest,
    loaded: LoadedComponents,
    instance: Instance,
    cancellation: Cancellation,
    *,
    journal: StepJournal | None = None,
    listener: NullReporter | None = None,
) -> ExecutionResult:
    """Run documents that were checked, and show the result. Raises CommandFailed, RestartNeeded, Cancelled."""
    settings = settings_of(request.data_dir)
    runs = document_runs(request, loaded)
    unfinished = unfinished_execution(journal, runs, request.phases) if journal is not None else ""
    execution_id = unfinished or request.execution_id or str(uuid.uuid4())
    clock = SystemClock()
    view = StepView(quiet=request.as_json, verbose=request.verbose)
    with _log_folder(request, loaded, execution_id, clock=clock, resumed=bool(unfinished)) as logs:
        result = run_documents(
            runs,
            instance,
            phases=request.phases,
            clock=clock,
            ids=lambda: str(uuid.uuid4()),
            options=RunOptions(
                execution_id=execution_id, working_directory=request.working_directory,
                services=_services(request, settings, instance), account=settings.account,
                region=settings.region, log_url=str(logs.path) if logs else "",
            ),
            reporter=Several(view, *([logs] if logs else []), *([listener] if listener else [])),
            cancellation=cancellation,
            journal=journal,
        )  # fmt: skip
        if logs is not None:
            logs.finish(result)
    if request.as_json:
        print_json({**result.summary(), **problems_member(request.files, loaded)})
    else:
        show_ending(result, loaded.texts)
    return result


@contextmanager
def _log_folder(
    request: RunRequest, loaded: LoadedComponents, execution_id: str, *, clock: Clock, resumed: bool
) -> Iterator[LogFolder | None]:
    """The folder for the logs of a run, with its documents; None when none is wanted. Raises CommandFailed."""
    if request.log_directory is None:
        yield None
        return
    try:
        logs = LogFolder(request.log_directory, execution_id, clock=clock, resumed=resumed)
    except OSError as error:
        raise CommandFailed(f"the log folder cannot be created: {error}") from error
    logs.documents(loaded.texts)
    try:
        yield logs
    finally:
        logs.close()


def _journal(request: RunRequest) -> StepJournal | None:
    """The state of an interrupted run; a container does not outlive its run, so it has none."""
    folder = request.state_directory
    if folder is None:
        return None
    if request.target != "host":
        raise CommandFailed(
            "--state-directory works only with --on host: a container is removed at the end of its run"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise CommandFailed(f"the state directory cannot be created: {error}") from error
    return FileJournal(folder / "state.jsonl")


@contextmanager
def _store(settings: Settings) -> Iterator[Connection]:
    """The store of the data directory, with the stored parameters. Raises NotConfigured when it is absent."""
    try:
        with opened_store(settings) as tx:
            yield tx
    except CommandFailed as error:
        raise NotConfigured(str(error)) from error


def _services(request: RunRequest, settings: Settings, instance: Instance) -> Services:
    secret = ""
    if settings.s3_secret_key_file:
        try:
            secret = Path(settings.s3_secret_key_file).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise CommandFailed(f"the S3 key file cannot be read: {error}") from error
    s3 = S3Config(settings.s3_endpoint_url, settings.region, settings.s3_access_key_id, secret)
    # On this computer a document can reach everything anyway; in a container it must not gain the host's access.
    of_instance = InstanceMetadata(settings.account, settings.region, instance, instance_id(instance_name(), ""))
    return Services(
        metadata=NoMetadata() if request.target == "host" else of_instance,
        parameters=StoredParameters(
            partial(_store, settings), partial(open_existing, settings), settings.account, settings.region
        ),
        components=ManagedDocuments(),
        s3=s3,
        loopback_downloads=request.target == "host",
        download_cache=request.data_dir / "authoring" / "downloads",
    )


def instance_of(request: RunRequest, cancellation: Cancellation) -> AbstractContextManager[Instance]:
    """The instance of a request, removed afterwards. Entering it raises CommandFailed."""

    def on_line(line: str) -> None:
        if not request.as_json:
            echo(line, fg="bright_black")

    restarts = request.state_directory is not None
    return open_instance(
        request.target, request.data_dir, restarts=restarts, on_line=on_line, cancellation=cancellation
    )


@contextmanager
def interruptible(cancellation: Cancellation) -> Iterator[None]:
    """Ctrl-C, SIGTERM and SIGHUP end the run, remove the instance and then end the command.

    The exit status is that of a program which the signal ended. SIGHUP stays ignored where it is, as below nohup.
    """
    import signal

    caught: list[int] = []

    def end(number: int, _frame: object) -> None:
        caught.append(number)
        cancellation.cancel()

    names = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        names.append(signal.SIGHUP)
    before = {name: signal.signal(name, end) for name in names}
    try:
        yield
    except Cancelled as ended:
        if caught and caught[0] != signal.SIGINT:
            raise SystemExit(128 + caught[0]) from ended
        raise click.Abort from ended
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
