"""`{{ aws:ssm:NAME }}`: the values of `imagesmith parameter`, by account and Region (spec/components.md 4.5)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final

from sqlalchemy.engine import Connection

from imagesmith.accounts.sealed_parameters import open_parameter
from imagesmith.accounts.secret_box import SecretBox, SecretsError
from imagesmith.components.services import StoredParameter
from imagesmith.store.parameters import get_parameter

_SECRETS_MANAGER: Final = "/aws/reference/secretsmanager/"
"""Values below this name are always secret."""


@dataclass(frozen=True)
class StoredParameters:
    """A ParameterStore. `read` opens the database for one query, `box` the key file of secure values."""

    read: Callable[[], AbstractContextManager[Connection]]
    box: Callable[[], SecretBox]
    account: str
    region: str

    def get(self, name: str) -> StoredParameter:
        with self.read() as tx:
            found = get_parameter(tx, self.account, self.region, name)
        if found is None:
            plain, selector, _ = name.rpartition(":")
            why = f"; versions and labels are not supported, use '{plain}'" if selector and plain else ""
            raise LookupError(f"account {self.account} has no stored parameter '{name}' in {self.region}{why}")
        if not found.secure:
            return StoredParameter(found.value, name.startswith(_SECRETS_MANAGER))
        try:
            return StoredParameter(open_parameter(found, self.account, self.region, self.box()), secure=True)
        except (SecretsError, OSError) as error:
            raise LookupError(str(error)) from error
