"""One request to one answer: the order of checks of spec/api.md 2.3, and what every refusal looks like.

    authenticate -> route -> rate -> body size -> JSON syntax -> policy of the key -> model constraints -> built?
    -> Dispatcher -> serialize

A policy that denies is AccessDeniedException, as IAM's denial is; ForbiddenException is what the service itself
forbids, such as a role that the caller may not pass. The policy is asked once the members can be read, because
the refusal names the resource, and before they are judged, because a denied key is told nothing else.

Nothing here is asynchronous and nothing is kept between requests. An exception that is no ApiError is a fault
of ours: it is logged with its traceback and the caller learns the request id only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any, Final

from imagesmith.resources.dispatch import Caller, Dispatcher, NotNow, Together
from imagesmith.resources.errors import ApiError, access_denied, not_implemented
from imagesmith.wire.messages import Request, Response, error_response
from imagesmith.wire.model import Api, Operation
from imagesmith.wire.parse import parse_request
from imagesmith.wire.rates import RateLimits
from imagesmith.wire.serialize import success_body
from imagesmith.wire.signature import Authenticator, Identity
from imagesmith.wire.validate import Validator

_log = logging.getLogger(__name__)

_SHOWN_PATH: Final = 256
_SHOWN_ARN: Final = 1024


Ask = Callable[[], dict[str, Any]]
"""Asks for the output members of a read, again and again. Raises ApiError."""


class Pace(Enum):
    """How a request is best answered."""

    AT_ONCE = "sooner answered than handed to a thread"
    TOGETHER = "with those that wait beside it, in one commit"
    LONG = "in a thread of its own"


class Service:
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
        self._paces = {
            **dict.fromkeys(dispatcher.short_reads, Pace.AT_ONCE),
            **dict.fromkeys(dispatcher.short_changes, Pace.TOGETHER),
        }

    def answer(self, request: Request) -> Response:
        """Carry out one request; every outcome is a response."""
        request_id = self._ids()
        try:
            return Response(200, self._carry_out(request, request_id), request_id)
        except ApiError as error:
            return self.refuse(error, request_id)
        except Exception:
            _log.exception("request %s failed: %s %s", request_id, request.method, request.path[:_SHOWN_PATH])
            message = f"The service could not complete the request because of an internal error: {request_id}"
            return self.refuse(ApiError("ServiceException", message), request_id)

    def pace(self, request: Request) -> Pace:
        """How a request is best answered."""
        found = self._api.route(request.method, request.path)
        return self._paces.get(found[0].name, Pace.LONG) if found is not None else Pace.LONG

    def together(self, *, patience: float) -> AnsweredTogether | None:
        """Begin to answer short changes that share one commit; None: the turn did not come within `patience` s."""
        try:
            return AnsweredTogether(self, self._dispatcher.together(patience=patience))
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
        """A read operation whose members stand in the query of a path of our own, such as that of a log.

        Gives the way to ask it, as often as wanted, for a caller who was found to have the right to.
        Raises ApiError.
        """
        identity = self._authenticator.check_body(self._authenticator.check_head(request), request)
        operation = self._api.operations[name]
        self._check_rate(identity, operation)
        caller, members = self._admit(request, identity, operation, "", self._ids())
        return lambda: self._dispatcher.call(name, caller, members)

    def _admit(
        self, request: Request, identity: Identity, operation: Operation, label: str, request_id: str
    ) -> tuple[Caller, dict[str, Any]]:
        """The caller and the members of a request that may be carried out. Raises ApiError."""
        given = parse_request(operation, label, request)
        if not identity.policy.permits(operation.name):
            raise access_denied(identity.principal, operation.name, self._named(given, identity))
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

    def _check_rate(self, identity: Identity, operation: Operation) -> None:
        seconds = self._rates.take(identity.account, operation.name) if self._rates is not None else 0
        if seconds:
            message = f"Rate exceeded for {operation.name}. Retry after {seconds} seconds."
            raise ApiError(operation.rate_code, message, retry_after=seconds)

    def _named(self, given: Mapping[str, Any], identity: Identity) -> str:
        """The resource that a request is about: its first ARN, else everything of the account."""
        for name, value in given.items():
            if name.endswith("Arn") and isinstance(value, str) and len(value) <= _SHOWN_ARN:
                return value
        return f"arn:{self._partition}:imagebuilder:{identity.region}:{identity.account}:*"


class AnsweredTogether:
    """Short changes in one commit, each with its own outcome. end() must come, from any thread."""

    def __init__(self, service: Service, calls: Together) -> None:
        self._service = service
        self._calls = calls
        self._responses: list[Response] = []

    def answer(self, requests: Iterable[Request]) -> None:
        """Carry out requests in their order; what comes of them is known at the end."""
        with self._calls.joined():
            for request in requests:
                self._responses.append(self._service.answer(request))

    def end(self) -> list[Response]:
        """Commit; gives the response to each request."""
        try:
            self._calls.end()
        except ApiError as error:
            refusal = error
        except Exception:
            _log.exception("%d changes could not be committed", len(self._responses))
            refusal = ApiError("ServiceException", "The service could not complete the request.")
        else:
            return self._responses
        # nothing is there that was to be written; refusals were refusals before
        return [response if response.error else self._service.refuse(refusal) for response in self._responses]
