"""Imports DBOS without the driver of PostgreSQL, which DBOS imports whatever the database is.

    import dbos --import psycopg--> a stand-in --first attribute that is used--> the driver

The driver is 76 modules that a server on SQLite does not need. DBOS uses it only in what it does on PostgreSQL, and
where it explains an error of a database. Everything else of the engine imports DBOS from here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any


class _StandIn(ModuleType):
    """Imports a module when one of its attributes is used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # what the import system asks every module for
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


@contextmanager
def _deferred(package: str, submodule: str) -> Iterator[None]:
    """Within the context an import of the package, or of the submodule from it, yields a stand-in."""
    if package in sys.modules:
        yield
        return
    stand_in = _StandIn(package)
    setattr(stand_in, submodule, _StandIn(f"{package}.{submodule}"))
    sys.modules[package] = stand_in
    try:
        yield
    finally:
        if sys.modules.get(package) is stand_in:
            del sys.modules[package]


with _deferred("psycopg", "errors"):
    from dbos import (
        DBOS,
        DBOSClient,
        DBOSConfig,
        DBOSPortableJSONSerializer,
        EnqueueOptions,
        SetEnqueueOptions,
        SetWorkflowID,
    )
    from dbos import error as dbos_errors

__all__ = [
    "DBOS",
    "DBOSClient",
    "DBOSConfig",
    "DBOSPortableJSONSerializer",
    "EnqueueOptions",
    "SetEnqueueOptions",
    "SetWorkflowID",
    "dbos_errors",
]
