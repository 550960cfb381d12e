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
from enum import Enum
from typing import Any, Final

from imagesmith.resources.dispatch import CallBatch, Caller, Dispatcher, NotNow
from imagesmith.resources.errors import ApiError, access_denied, not_implemented
from imagesmith.values.api import ApiRequest, ApiResponse
from imagesmith.wire.messages import Request, Response, error_response
from imagesmith.wire.model import Api, Operation
from imagesmith.wire.parse import parse_request
from imagesmith.wire.rates import RateLimits
from imagesmith.wire.serialize import success_body
from imagesmith.wire.signature import Authenticator, Signer
from imagesmith.wire.validate import Validator

_log = logging.getLogger(__name__)

_SHOWN_PATH: Final = 256
_SHOWN_ARN: Final = 1024


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
        partition: str,
        body_limit: int,
        rates: RateLimits | None = None,
    ) -> None:
        self._dispatcher = dispatcher
        self._authenticator = authenticator
        self._api = api
        self._validator = Validator()
        self._ids = ids
        self._partition = partition
        self._body_limit = body_limit
        self._rates = rates
        self._modes = {
            **dict.fromkeys(dispatcher.short_reads, ExecutionMode.INLINE),
            **dict.fromkeys(dispatcher.short_changes, ExecutionMode.BATCHED),
        }

    def answer(self, request: Request) -> Response:
        """Execute one request; every outcome is a response."""
        request_id = self._ids()
        try:
            return Response(200, self._carry_out(request, request_id), request_id)
        except ApiError as error:
            return self.refuse(error, request_id)
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

    def _carry_out(self, request: Request, request_id: str) -> bytes:
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
        caller, members = self._admit(request, identity, operation, label, request_id)
        answer = self._dispatcher.call(operation.name, caller, members)
        return success_body(operation, answer, request_id=request_id, client_token=members.get("clientToken"))

    def question(self, request: Request, name: str) -> Ask:
        """A read operation whose members are in the query of a path outside the API, such as a log's.

        Returns a function that executes it, as often as it is called, for an authorised caller. Raises ApiError.
        """
        identity = self._authenticator.check_body(self._authenticator.check_head(request), request)
        operation = self._api.operations[name]
        self._check_rate(identity, operation)
        caller, members = self._admit(request, identity, operation, "", self._ids())
        return lambda: self._dispatcher.call(name, caller, members)

    def _admit(
        self, request: Request, identity: Signer, operation: Operation, label: str, request_id: str
    ) -> tuple[Caller, ApiRequest]:
        """The caller and the members of an admitted request. Raises ApiError."""
        sent, given = parse_request(operation, label, request)
        if not identity.policy.permits(operation.name):
            raise access_denied(identity.principal, operation.name, self._resource(given, identity))
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
        )
        return caller, members

    def _check_rate(self, identity: Signer, operation: Operation) -> None:
        seconds = self._rates.take(identity.account, operation.name) if self._rates is not None else 0
        if seconds:
            message = f"Rate exceeded for {operation.name}. Retry after {seconds} seconds."
            raise ApiError(operation.rate_code, message, retry_after=seconds)

    def _resource(self, given: Mapping[str, Any], identity: Signer) -> str:
        """The resource of a request: its first ARN, else all resources of the account."""
        for name, value in given.items():
            if name.endswith("Arn") and isinstance(value, str) and len(value) <= _SHOWN_ARN:
                return value
        return f"arn:{self._partition}:imagebuilder:{identity.region}:{identity.account}:*"


class AnsweredTogether:
    """Short changes in one commit, each with its own outcome. end() must be called, from any thread."""

    def __init__(self, service: ApiService, calls: CallBatch) -> None:
        self._service = service
        self._calls = calls
        self._responses: list[Response] = []

    def answer(self, requests: Iterable[Request]) -> None:
        """Execute requests in their order; their outcome is known after end()."""
        with self._calls.joined():
            for request in requests:
                self._responses.append(self._service.answer(request))

    def end(self) -> list[Response]:
        """Commit; returns the response to each request."""
        try:
            self._calls.end()
        except ApiError as error:
            refusal = error
        except Exception:
            _log.exception("%d changes could not be committed", len(self._responses))
            refusal = ApiError("ServiceException", "The service could not complete the request.")
        else:
            return self._responses
        # nothing was written; refusals remain refusals
        return [response if response.error else self._service.refuse(refusal) for response in self._responses]
