"""Secure parameters: their values are encrypted with the key file, like the secrets of access keys.

    parameter put --secure --> sealed text in the database --> a step of a component, get --with-decryption

A sealed value belongs to its account, Region and name. Earlier versions stored secure values as they were; the
start of a server seals those.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from imagesmith.accounts.secret_box import SecretBox, SecretsError
from imagesmith.store.database import Database
from imagesmith.store.parameters import ParameterRecord, put_parameter, secure_parameters, unsealed_secret

_log = logging.getLogger(__name__)

_SCOPE: Final = "sealed-parameters"


def sealed_parameter(
    name: str, secret: str, *, account: str, region: str, updated: datetime, box: SecretBox
) -> ParameterRecord:
    """A secure parameter, ready to be stored."""
    return ParameterRecord(name, "", updated, sealed=box.seal(secret, _label(account, region, name)))


def open_parameter(parameter: ParameterRecord, account: str, region: str, box: SecretBox) -> str:
    """The value of a secure parameter. Raises SecretsError, which names the parameter."""
    if parameter.is_unsealed:
        raise SecretsError(
            f"the parameter {parameter.name} is not encrypted yet: the next start of a server does that"
        )
    return box.unseal(parameter.sealed, _label(account, region, parameter.name))


def has_sealed_parameters(database: Database) -> bool:
    """Whether the database has values that only its key file opens."""
    return any(not parameter.is_unsealed for _, _, parameter in database.query(secure_parameters))


def seal_parameters(database: Database, box: SecretBox) -> None:
    """Encrypt what earlier versions stored as it was. Raises SecretsError if another key sealed the others."""
    found = database.query(secure_parameters)
    for account, region, parameter in found:
        if not parameter.is_unsealed and box.is_foreign(parameter.sealed):
            open_parameter(parameter, account, region, box)
    if not any(parameter.is_unsealed for _, _, parameter in found):
        return
    with database.write(_SCOPE) as tx:
        count = _seal_open_ones(tx, box, sqlite=database.is_sqlite)
    if database.is_sqlite:
        with database.engine.connect() as connection:
            # the log of the database still has the pages from before
            busy = connection.execute(sa.text("PRAGMA wal_checkpoint(TRUNCATE)")).scalar()
        if busy:
            _log.warning(
                "the file -wal of the database still has secure parameters as they were, until it is emptied"
            )
    _log.warning(
        "%d secure parameters lay unencrypted in the database; they are encrypted now. Earlier backups, and "
        "before-upgrade/ in the data directory, still have them: replace the secrets that matter", count,
    )  # fmt: skip


def _seal_open_ones(tx: Connection, box: SecretBox, *, sqlite: bool) -> int:
    if sqlite:
        # what a row leaves behind in its page is overwritten with zeros
        tx.execute(sa.text("PRAGMA secure_delete = ON"))
    count = 0
    for account, region, parameter in secure_parameters(tx):
        if parameter.is_unsealed:
            sealed = sealed_parameter(
                parameter.name, unsealed_secret(parameter), account=account, region=region,
                updated=parameter.updated, box=box,
            )  # fmt: skip
            put_parameter(tx, account, region, sealed)
            count += 1
    return count


def _label(account: str, region: str, name: str) -> str:
    return f"the parameter {name} of account {account} in {region}"
