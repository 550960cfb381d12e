"""Stored parameters: the values of `ssm:` references, by account, region and name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imagesmith.store.records import from_microseconds, microseconds
from imagesmith.store.tables import parameters
from imagesmith.store.upsert import for_dialect, upserts

_PUT = upserts(parameters)
_GET = sa.select(parameters).where(
    *(parameters.c[name] == sa.bindparam(f"wanted_{name}") for name in ("account", "region", "name"))
)


_SECURE: Final = "\x01"
"""Prefix of the stored value of a secure parameter; values of users do not begin with this character."""


@dataclass(frozen=True)
class ParameterRecord:
    """A value and the time when it was set."""

    name: str
    value: str
    updated: datetime
    secure: bool = False
    """Logs and lists never show its value."""


def put_parameter(tx: Connection, account: str, region: str, parameter: ParameterRecord) -> None:
    """Store the value of a name, over an earlier one."""
    values = {
        "account": account, "region": region, "name": parameter.name,
        "value": f"{_SECURE if parameter.secure else ''}{parameter.value}",
        "updated": microseconds(parameter.updated),
    }  # fmt: skip
    tx.execute(for_dialect(tx, _PUT), values)


def get_parameter(tx: Connection, account: str, region: str, name: str) -> ParameterRecord | None:
    row = tx.execute(_GET, {"wanted_account": account, "wanted_region": region, "wanted_name": name}).first()
    return None if row is None else _parameter(row)


def all_parameters(tx: Connection, account: str, region: str) -> list[ParameterRecord]:
    """The parameters of an account and region, by name."""
    query = sa.select(parameters).where(parameters.c.account == account, parameters.c.region == region)
    rows = tx.execute(query.order_by(parameters.c.name))
    return [_parameter(row) for row in rows]


def _parameter(row: Any) -> ParameterRecord:
    secure = row.value.startswith(_SECURE)
    return ParameterRecord(row.name, row.value.removeprefix(_SECURE), from_microseconds(row.updated), secure)


def delete_parameter(tx: Connection, account: str, region: str, name: str) -> bool:
    """Delete a parameter; returns False for an unknown name."""
    table = parameters
    wanted = (table.c.account == account, table.c.region == region, table.c.name == name)
    return tx.execute(sa.delete(table).where(*wanted)).rowcount > 0
