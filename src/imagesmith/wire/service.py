"""Turns one request into one answer: the order of checks of spec/api.md 2.3, and the form of every refusal.

    authenticate -> route -> rate -> body size -> JSON syntax -> policy of the key -> model constraints -> built?
    -> Dispatcher -> serialize

A denial by a policy is AccessDeniedException, like IAM's; ForbiddenException is a denial by the service itself,
such as a role that the caller may not pass. The policy is checked after the members are parsed, because the refusal
names the resource, and before they are validated, because a denied key learns nothing else.

Nothing here is asynchronous and nothing is kept between requests. Any exception but ApiError is a fault of the
service: it is logged with its traceback and the caller learns only the request id.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from enum import Enum
from typing import Any, Final

from imagesmith.accounts.audit import AuditUnavailable
from imagesmith.policies.document import AccessRequest
from imagesmith.resources.dispatch import CallBatch, Caller, Dispatcher, NotNow
from imagesmith.resources.errors import ApiError, access_denied, not_implemented, unavailable
from imagesmith.values.api import ApiRequest, ApiResponse
from imagesmith.wire.auditing import AuditedCall, Auditor
from imagesmith.wire.messages import Request, Response, error_response
from imagesmith.wire.model import Api, Operation
from imagesmith.wire.parse import parse_request
from imagesmith.wire.rates import RateLimits
from imagesmith.wire.serialize import success_body
from imagesmith.wire.signature import Authenticator, Signer
from imagesmith.wire.targets import main_target, targets_of
from imagesmith.wire.validate import Validator

_log = logging.getLogger(__name__)

_SHOWN_PATH: Final = 256
_UNRECORDED: Final = ApiError(
    "ServiceException",
    "The change was made, and the audit log could not record it; the log of the server says why.",
)

Ask = Callable[[], ApiResponse]
"""Returns the output members of a read, as often as it is called. Raises ApiError."""


class ExecutionMode(Enum):
    """Where an operation runs: on the event loop, on it with others in one commit, or in a thread."""

    INLINE = "inline"
    BATCHED = "batched"
    THREADED = "threaded"


class ApiService:
    """Answers requests. Safe to call from several threads."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        authenticator: Authenticator,
        *,
        api: Api,
        ids: Callable[[], str],
        clock: Callable[[], datetime],
        partition: str,
        body_limit: int,
        rates: RateLimits | None = None,
        auditor: Auditor | None = None,
    ) -> None:
        self._dispatcher = dispatcher
        self._authenticator = authenticator
        self._api = api
        self._validator = Validator()
        self._ids = ids
        self._clock = clock
        self._partition = partition
        self._body_limit = body_limit
        self._rates = rates
        self.auditor = auditor or Auditor(None, clock)
        self._changes = dispatcher.changes
        self._modes = {
            **dict.fromkeys(dispatcher.short_reads, ExecutionMode.INLINE),
            **dict.fromkeys(dispatcher.short_changes, ExecutionMode.BATCHED),
        }

    def answer(self, request: Request) -> Response:
        """Execute one request; every outcome is a response, and a change is in the audit log before its answer."""
        response, call = self.execute(request)
        if not self.auditor.settle([(call, response)]):
            return self.refuse(_UNRECORDED, response.request_id)
        return response

    def execute(self, request: Request) -> tuple[Response, AuditedCall]:
        """Execute one request, and return what the audit log has to say about it."""
        request_id = self._ids()
        call = AuditedCall(request, request_id)
        return self._execute(request, request_id, call), call

    def _execute(self, request: Request, request_id: str, call: AuditedCall) -> Response:
        try:
            return Response(200, self._carry_out(request, request_id, call), request_id)
        except ApiError as error:
            return self.refuse(error, request_id)
        except AuditUnavailable as error:
            _log.error("request %s is refused: %s", request_id, error)
            return self.refuse(unavailable("The audit log cannot be written. Try again later."), request_id)
        except Exception:
            _log.exception("request %s failed: %s %s", request_id, request.method, request.path[:_SHOWN_PATH])
            message = f"The service could not complete the request because of an internal error: {request_id}"
            return self.refuse(ApiError("ServiceException", message), request_id)

    def check_head(self, request: Request) -> None:
        """Refuse a head that no body could make authentic. Raises ApiError."""
        self._authenticator.check_announced(self._authenticator.check_head(request), request)

    def execution_mode(self, request: Request) -> ExecutionMode:
        """The mode in which a request is answered."""
        found = self._api.route(request.method, request.path)
        return (
            self._modes.get(found[0].name, ExecutionMode.THREADED) if found is not None else ExecutionMode.THREADED
        )

    def begin_batch(self, *, patience: float) -> AnsweredTogether | None:
        """Start to answer short changes that share one commit; None: no database access within `patience` s."""
        try:
            return AnsweredTogether(self, self._dispatcher.begin_batch(patience=patience))
        except NotNow:
            return None

    def refuse(self, error: ApiError, request_id: str | None = None) -> Response:
        """The response for an error."""
        return error_response(
            self._api.status_of(error.code),
            error.code,
            message=error.message,
            request_id=request_id if request_id is not None else self._ids(),
            retry_after=error.retry_after,
        )

    def _carry_out(self, request: Request, request_id: str, call: AuditedCall) -> bytes:
        claim = self._authenticator.check_head(request)
        identity = None if request.oversized else self._authenticator.check_body(claim, request)
        found = self._api.route(request.method, request.path)
        if found is None:
            asked = f"{request.method} {request.path[:_SHOWN_PATH]}"
            raise ApiError("UnknownOperationException", f"No operation of this service is at {asked}.")
        operation, label = found
        if identity is not None:
            self._check_rate(identity, operation)
        if identity is None:
            message = f"The request body is longer than {self._body_limit} bytes."
            raise ApiError("SerializationException", message)
        if operation.name in self._changes:
            call.begin(identity, operation.name, self._main_target(operation, {}, identity))
        caller, members = self._admit(request, identity, operation, label, request_id, call)
        if call.is_audited:
            self.auditor.reserve()
        answer = self._dispatcher.call(operation.name, caller, members)
        if call.is_audited:
            call.end(answer)
        return success_body(operation, answer, request_id=request_id, client_token=members.get("clientToken"))

    def question(self, request: Request, name: str) -> Ask:
        """A read operation whose members are in the query of a path outside the API, such as a log's.

        Returns a function that executes it, as often as it is called, for an authorised caller. Raises ApiError.
        """
        claim = self._authenticator.check_head(request)
        identity = self._authenticator.check_body(claim, request)
        operation = self._api.operations[name]
        self._check_rate(identity, operation)
        caller, members = self._admit(request, identity, operation, "", self._ids())

        def ask() -> ApiResponse:
            # a key that was revoked or restricted meanwhile reads no further
            self._authorise(request, self._authenticator.recheck(claim), operation, members)
            return self._dispatcher.call(name, caller, members)

        return ask

    def _admit(
        self,
        request: Request,
        identity: Signer,
        operation: Operation,
        label: str,
        request_id: str,
        call: AuditedCall | None = None,
    ) -> tuple[Caller, ApiRequest]:
        """The caller and the members of an admitted request. Raises ApiError."""
        sent, given = parse_request(operation, label, request)
        if call is not None and call.is_audited:
            call.resource = self._main_target(operation, given, identity)
        self._authorise(request, identity, operation, given)
        self._api.unknown.refuse(operation.name, operation.invalid_code, sent)
        members = self._validator.check(operation, given)
        if operation.name not in self._dispatcher.operations:
            raise not_implemented(operation.name)
        caller = Caller(
            account=identity.account,
            region=identity.region,
            principal=identity.principal,
            request_id=request_id,
            partition=self._partition,
            access_key_id=identity.access_key_id,
            audit_line=self.auditor.lines_of(call) if call is not None else None,
        )
        return caller, members

    def _check_rate(self, identity: Signer, operation: Operation) -> None:
        seconds = self._rates.take(identity.account, operation.name) if self._rates is not None else 0
        if seconds:
            message = f"Rate exceeded for {operation.name}. Retry after {seconds} seconds."
            raise ApiError(operation.rate_code, message, retry_after=seconds)

    def _authorise(
        self, request: Request, identity: Signer, operation: Operation, given: Mapping[str, Any]
    ) -> None:
        """Raise ApiError unless the policy of the key permits the operation on all its resources."""
        if identity.policy.is_unrestricted:
            return
        targets = targets_of(operation.name, given, self._scope(identity))
        judged = [(operation.name, targets.main)]
        if identity.policy.judges_references:
            judged += targets.references
        keys = self._condition_keys(request, identity)
        for name, resource in judged:
            asked = AccessRequest(
                account=identity.account, principal=identity.principal, action=f"imagebuilder:{name}",
                resource=resource, keys=keys,
            )  # fmt: skip
            if not identity.policy.permits(asked):
                raise access_denied(identity.principal, name, resource)

    def _main_target(self, operation: Operation, given: Mapping[str, Any], identity: Signer) -> str:
        return main_target(operation.name, given, self._scope(identity))

    def _scope(self, identity: Signer) -> str:
        return f"arn:{self._partition}:imagebuilder:{identity.region}:{identity.account}:"

    def _condition_keys(self, request: Request, identity: Signer) -> dict[str, str]:
        now = self._clock()
        keys = {
            "aws:principalaccount": identity.account,
            "aws:principalarn": identity.principal,
            "aws:requestedregion": identity.region,
            "aws:currenttime": now.isoformat(),
            "aws:epochtime": str(int(now.timestamp())),
            "aws:securetransport": str(request.secure).lower(),
        }
        return {**keys, "aws:sourceip": request.address} if request.address else keys


class AnsweredTogether:
    """Short changes in one commit, each with its own outcome. end() must be called, from any thread."""

    def __init__(self, service: ApiService, calls: CallBatch) -> None:
        self._service = service
        self._calls = calls
        self._answered: list[tuple[AuditedCall, Response]] = []

    def answer(self, requests: Iterable[Request]) -> None:
        """Execute requests in their order; their outcome is known after end()."""
        with self._calls.joined():
            for request in requests:
                response, call = self._service.execute(request)
                self._answered.append((call, response))

    def end(self) -> list[Response]:
        """Commit, and write the audit log; returns the response to each request."""
        refusal = self._commit()
        if refusal is not None:
            self._refuse_changes(refusal)
        if not self._service.auditor.settle(self._answered) and refusal is None:
            self._refuse_changes(_UNRECORDED)
        return [response for _, response in self._answered]

    def _refuse_changes(self, refusal: ApiError) -> None:
        """Answer with an error what would have been a success; refusals remain refusals."""
        self._answered = [
            (call, response if response.error else self._service.refuse(refusal, response.request_id))
            for call, response in self._answered
        ]

    def _commit(self) -> ApiError | None:
        """The refusal of all requests, of which nothing was written then; None after a commit."""
        try:
            self._calls.end()
        except ApiError as error:
            return error
        except Exception:
            _log.exception("%d changes could not be committed", len(self._answered))
            return ApiError("ServiceException", "The service could not complete the request.")
        return None
