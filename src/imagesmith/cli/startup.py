"""Shortens the start: modules of builds are loaded after the server listens, the garbage collector is off before.

    begin() --> imports, database, engine, app --> listening --> finish(): modules of builds --> collector on

A start makes half a million permanent objects; scanning them repeatedly would take a seventh of the start.
Afterwards they are frozen: the collector ignores them. The modules that only a build needs are loaded as soon as
the server listens: an update of the package under a running server must not mix two versions.
"""

from __future__ import annotations

import gc
import logging
import threading

_log = logging.getLogger(__name__)


def begin() -> None:
    """Disable the garbage collector until finish(), or the end of the process."""
    gc.disable()


def finish(*, builds: bool) -> None:
    """End the start phase; `builds`: the process also builds. Returns at once."""
    threading.Thread(target=_finish, args=(builds,), name="startup", daemon=True).start()


def _finish(builds: bool) -> None:
    try:
        if builds:
            import imagesmith.builds.image_run  # noqa: F401
    except Exception:
        # every build would fail with this error and report it; the API continues
        _log.exception("the modules of builds cannot be loaded: builds will fail; reinstall the package")
    finally:
        gc.freeze()
        gc.enable()
