"""One request to one answer: the order of checks of spec/api.md 2.3, and what every refusal looks like.

    authenticate -> route -> body size -> JSON syntax -> model constraints -> built? -> Dispatcher -> serialize

Nothing here is asynchronous and nothing is kept between requests. An exception that is no ApiError is a fault
of ours: it is logged with its traceback and the caller learns the request id only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from imagesmith.resources.dispatch import Caller, Dispatcher
from imagesmith.resources.errors import ApiError, not_implemented
from imagesmith.wire.messages import Request, Response, error_response
from imagesmith.wire.model import Api
from imagesmith.wire.parse import parse_request
from imagesmith.wire.serialize import success_body
from imagesmith.wire.signature import Authenticator
from imagesmith.wire.validate import Validator

_log = logging.getLogger(__name__)

_SHOWN_PATH: Final = 256


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
    ) -> None:
        self._dispatcher = dispatcher
        self._authenticator = authenticator
        self._api = api
        self._validator = Validator()
        self._ids = ids
        self._partition = partition
        self._body_limit = body_limit

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

    def refuse(self, error: ApiError, request_id: str | None = None) -> Response:
        """The response for an error."""
        return error_response(
            self._api.status_of(error.code),
            error.code,
            message=error.message,
            request_id=request_id if request_id is not None else self._ids(),
        )

    def _carry_out(self, request: Request, request_id: str) -> bytes:
        claim = self._authenticator.check_head(request)
        identity = None if request.oversized else self._authenticator.check_body(claim, request)
        found = self._api.route(request.method, request.path)
        if found is None:
            asked = f"{request.method} {request.path[:_SHOWN_PATH]}"
            raise ApiError("UnknownOperationException", f"No operation of this service is at {asked}.")
        if identity is None:
            message = f"The request body is longer than {self._body_limit} bytes."
            raise ApiError("SerializationException", message)
        operation, label = found
        members = self._validator.check(operation, parse_request(operation, label, request))
        if operation.name not in self._dispatcher.operations:
            raise not_implemented(operation.name)
        caller = Caller(
            account=identity.account,
            region=identity.region,
            principal=identity.principal,
            request_id=request_id,
            partition=self._partition,
        )
        answer = self._dispatcher.call(operation.name, caller, members)
        return success_body(operation, answer, request_id=request_id, client_token=members.get("clientToken"))
