"""Changes that commands make on the server's machine, in the audit log beside the requests of clients."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

import click

from imagesmith.accounts.audit import AuditLog, AuditRecord, AuditUnavailable
from imagesmith.cli.context import CommandFailed
from imagesmith.settings import Settings

SOURCE: Final = "command"
_LOGIN: Final = re.compile(r"//[^/@\s]*@")


@contextmanager
def audited(settings: Settings, made: Callable[[], str] = str) -> Iterator[None]:
    """Record the running command when its change ends. Raises CommandFailed where that is impossible.

    `made` returns what the command created, where no argument names it.
    """
    log = AuditLog(settings.data_dir, lambda: datetime.now(UTC), keeps_room=False)
    try:
        log.reserve()
        result = "OK"
        try:
            yield
        except BaseException as error:
            result = type(error).__name__
            raise
        finally:
            log.record(_record(settings, result, made))
    except AuditUnavailable as error:
        raise CommandFailed(str(error), "free some space, or make the folder writable") from error
    finally:
        log.close()


def _record(settings: Settings, result: str, made: Callable[[], str]) -> AuditRecord:
    context = click.get_current_context(silent=True)
    return AuditRecord(
        time=datetime.now(UTC), principal=_person(), source=SOURCE,
        operation=" ".join(context.command_path.split()[-2:]) if context else SOURCE,
        resource=_subject(context) or made(), result=result, account=settings.account, region=settings.region,
    )  # fmt: skip


def _person() -> str:
    """The user of this machine, also behind sudo."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"uid {os.getuid()}"
    behind = os.environ.get("SUDO_USER", "")
    return f"local user {name}" + (f" (sudo by {behind})" if behind else "")


def _subject(context: click.Context | None) -> str:
    """The first argument, which names what is changed; values and options may be secrets."""
    for parameter in context.command.params if context else ():
        if isinstance(parameter, click.Argument) and context is not None:
            value = context.params.get(parameter.name or "")
            return _LOGIN.sub("//", str(value)) if value is not None else ""
    return ""
