"""Shortens the start: what reads documents and runs builds is loaded when the server listens.

    begin()   collector off --> imports, database, engine, app --> listening
    finish()  grammars of documents --> modules of builds --> collector on

A start makes half a million permanent objects; scanning them repeatedly would take a seventh of the start.
Afterwards they are frozen: the collector ignores them. The grammars of documents and the modules that only a build
needs are loaded as soon as the server listens, not when they are needed first: an update of the package under a
running server must not mix two versions. Until then a request that reads a document waits for its grammar.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable

_log = logging.getLogger(__name__)


def begin() -> None:
    """Disable the garbage collector until finish(), or the end of the process."""
    gc.disable()


def load_documents() -> None:
    """Load the grammars of documents, and read the managed ones."""
    import imagesmith.components.shell_documents
    import imagesmith.dockerfiles.template
    import imagesmith.resources.nested_components  # noqa: F401
    from imagesmith.resources.managed import managed_documents

    managed_documents()


def load_builds() -> None:
    """Load what only a build needs."""
    import imagesmith.builds.image_run
    import imagesmith.lifecycle.execution  # noqa: F401


def finish(*parts: Callable[[], None]) -> None:
    """End the start phase and load these parts in their order. Returns at once."""
    # not a daemon: at the end of the process that would be stopped inside the code of a C++ module, which aborts
    threading.Thread(target=_finish, args=parts, name="startup").start()


def _finish(*parts: Callable[[], None]) -> None:
    try:
        for load in parts:
            load()
    except Exception:
        # every request or build that needs the part would fail with this error and report it; the others continue
        _log.exception("a part of imagesmith cannot be loaded, and what needs it will fail; reinstall the package")
    finally:
        gc.freeze()
        gc.enable()
