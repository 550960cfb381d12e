"""Stored parameters: the values of `ssm:` references, by account, region and name.

This module sees values of secure parameters only encrypted; accounts/sealed_parameters.py seals and opens them.
"""

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


_UNSEALED: Final = "\x01"
"""Prefix of a secure value that an earlier version stored as it was; other values do not begin with it."""


@dataclass(frozen=True)
class ParameterRecord:
    """A value and the time when it was set."""

    name: str
    value: str
    """Empty for a secure parameter."""
    updated: datetime
    sealed: str = ""
    """The encrypted value of a secure parameter, which logs, lists and tags never show."""

    @property
    def secure(self) -> bool:
        return bool(self.sealed)

    @property
    def is_unsealed(self) -> bool:
        """Whether an earlier version stored the secret, which `sealed` then contains, without encryption."""
        return self.sealed.startswith(_UNSEALED)


def put_parameter(tx: Connection, account: str, region: str, parameter: ParameterRecord) -> None:
    """Store the value of a name, over an earlier one."""
    values = {
        "account": account, "region": region, "name": parameter.name, "value": parameter.value,
        "sealed": parameter.sealed, "updated": microseconds(parameter.updated),
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


def secure_parameters(tx: Connection) -> list[tuple[str, str, ParameterRecord]]:
    """All secure parameters, each with its account and region."""
    unsealed = parameters.c.value.startswith(_UNSEALED)
    rows = tx.execute(sa.select(parameters).where(sa.or_(parameters.c.sealed != "", unsealed)))
    return [(row.account, row.region, _parameter(row)) for row in rows]


def unsealed_secret(parameter: ParameterRecord) -> str:
    """The secret of a parameter that is_unsealed."""
    return parameter.sealed.removeprefix(_UNSEALED)


def _parameter(row: Any) -> ParameterRecord:
    updated = from_microseconds(row.updated)
    if row.value.startswith(_UNSEALED):
        return ParameterRecord(row.name, "", updated, sealed=row.value)
    return ParameterRecord(row.name, row.value, updated, sealed=row.sealed)


def delete_parameter(tx: Connection, account: str, region: str, name: str) -> bool:
    """Delete a parameter; returns False for an unknown name."""
    table = parameters
    wanted = (table.c.account == account, table.c.region == region, table.c.name == name)
    return tx.execute(sa.delete(table).where(*wanted)).rowcount > 0
