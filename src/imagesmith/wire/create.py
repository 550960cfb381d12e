"""Puts the application of a server together: who may call, how often, what is recorded."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from imagesmith.accounts.audit_outbox import AuditOutbox
from imagesmith.accounts.keys import KeyRing
from imagesmith.resources.dispatch import Dispatcher
from imagesmith.settings import Settings, SettingsError
from imagesmith.wire.app import App
from imagesmith.wire.auditing import Auditor
from imagesmith.wire.limits import HttpLimits
from imagesmith.wire.model import Api
from imagesmith.wire.rates import RateLimits
from imagesmith.wire.service import ApiService
from imagesmith.wire.signature import Authenticator, Trusting, Verifier


def create_app(
    dispatcher: Dispatcher,
    *,
    keys: KeyRing,
    settings: Settings,
    clock: Callable[[], datetime],
    ids: Callable[[], str],
    limits: HttpLimits | None = None,
    api: Api | None = None,
    audit: AuditOutbox | None = None,
) -> App:
    """The application of a server.

    `clock` returns the time with its zone; `ids` returns a new UUID text per call. `keys` is not used when
    `settings.auth` is `none`.
    `api`: the model of the installed botocore. `audit`: where changes are recorded; the application closes it.
    Raises SettingsError when a rate limit names an unknown operation.
    """
    bounds = limits or HttpLimits()
    authenticator: Authenticator = Verifier(keys, clock=clock)
    if settings.auth == "none":
        authenticator = Trusting(account=settings.account, region=settings.region, partition=settings.partition)
    api = api or Api.load()
    strange = sorted(set(settings.rate_limits) - set(api.operations) - {"*"})
    if strange:
        raise SettingsError(f"rate_limits has the key {strange[0]!r}, expected an operation of the service, or *")
    service = ApiService(
        dispatcher,
        authenticator,
        api=api,
        ids=ids,
        clock=clock,
        partition=settings.partition,
        body_limit=bounds.body_bytes,
        rates=RateLimits(settings.rate_limits, clock=clock) if settings.rate_limits else None,
        auditor=Auditor(audit, clock),
    )
    return App(service, bounds, settings.data_dir / "logs")
