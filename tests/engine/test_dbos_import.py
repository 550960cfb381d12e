"""The engine without the driver of PostgreSQL."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import json, sys
import imagesmith.engine.process
before = "psycopg" in sys.modules
from dbos import _sys_db, _utils
seen = [_sys_db.pg_errors.LockNotAvailable, _utils.psycopg.OperationalError, _utils.psycopg.errors.Error]
import psycopg
real = [psycopg.errors.LockNotAvailable, psycopg.OperationalError, psycopg.errors.Error]
print(json.dumps([before, seen == real, sys.modules["psycopg"] is psycopg]))
"""


def test_the_driver_is_imported_when_something_of_it_is_used() -> None:
    """The engine loads without the driver, and DBOS then sees the driver's own classes."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [False, True, True]
