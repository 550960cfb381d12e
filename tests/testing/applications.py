"""The application of a server, as contract tests put it together."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from imagesmith.accounts.audit_outbox import AuditOutbox
from imagesmith.accounts.keys import KeyRing
from imagesmith.resources.dispatch import Dispatcher
from imagesmith.settings import Settings
from imagesmith.wire.app import App
from imagesmith.wire.create import create_app
from testing.loaded import service_model


def application(service: Dispatcher, settings: Settings, keys: KeyRing, *, audit: AuditOutbox | None = None) -> App:
    """The application of a server over a service, on the clock of this machine."""
    return create_app(
        service, keys=keys, settings=settings, clock=lambda: datetime.now(UTC), ids=lambda: str(uuid.uuid4()),
        api=service_model(), audit=audit,
    )  # fmt: skip
