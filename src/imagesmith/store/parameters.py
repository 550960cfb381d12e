"""Stored parameters: what an `ssm:` reference means, by account, region and name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imagesmith.store.records import from_microseconds, microseconds
from imagesmith.store.tables import parameters
from imagesmith.store.upsert import for_dialect, upserts

_PUT = upserts(parameters)
_GET = sa.select(parameters).where(
    *(parameters.c[name] == sa.bindparam(f"wanted_{name}") for name in ("account", "region", "name"))
)


@dataclass(frozen=True)
class Parameter:
    """One value and when it was set."""

    name: str
    value: str
    updated: datetime


def put_parameter(tx: Connection, account: str, region: str, parameter: Parameter) -> None:
    """Store a value, over the one that the name had."""
    values = {
        "account": account, "region": region, "name": parameter.name, "value": parameter.value,
        "updated": microseconds(parameter.updated),
    }  # fmt: skip
    tx.execute(for_dialect(tx, _PUT), values)


def get_parameter(tx: Connection, account: str, region: str, name: str) -> Parameter | None:
    row = tx.execute(_GET, {"wanted_account": account, "wanted_region": region, "wanted_name": name}).first()
    return None if row is None else Parameter(row.name, row.value, from_microseconds(row.updated))


def all_parameters(tx: Connection, account: str, region: str) -> list[Parameter]:
    """Those of one account and region, by name."""
    query = sa.select(parameters).where(parameters.c.account == account, parameters.c.region == region)
    rows = tx.execute(query.order_by(parameters.c.name))
    return [Parameter(row.name, row.value, from_microseconds(row.updated)) for row in rows]


def delete_parameter(tx: Connection, account: str, region: str, name: str) -> bool:
    """False when there is none of that name."""
    table = parameters
    wanted = (table.c.account == account, table.c.region == region, table.c.name == name)
    return tx.execute(sa.delete(table).where(*wanted)).rowcount > 0
