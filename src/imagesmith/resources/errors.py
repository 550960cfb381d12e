"""Every error of the API, and the literal texts that clients match on (spec/api.md 2.3).

`ApiError` carries the code of the service model; `wire` finds the HTTP status there.
"""

from __future__ import annotations

from imagesmith.values.arn import RESOURCE_NAMES, Arn


class ApiError(Exception):
    """The refusal of an operation with one of the model's codes.

    `retry_after`: after how many seconds the same request may succeed; 0 when time does not help.
    """

    def __init__(self, code: str, message: str, *, retry_after: int = 0) -> None:
        self.code = code
        self.message = message
        self.retry_after = retry_after
        super().__init__(f"{code}: {message}")


def invalid_value(path: str, detail: str) -> ApiError:
    return ApiError(
        "InvalidParameterValueException", f"The value supplied for parameter '{path}' is not valid. {detail}"
    )


def invalid_combination(path: str, detail: str) -> ApiError:
    return ApiError(
        "InvalidParameterCombinationException",
        f"The value supplied for parameter '{path}' is not valid. {detail}",
    )


def invalid_request(message: str) -> ApiError:
    return ApiError("InvalidRequestException", message)


def invalid_version(text: str, why: str) -> ApiError:
    return ApiError("InvalidVersionNumberException", f"The version '{text}' is not valid. {why}")


def not_found(kind: str, arn: str | Arn) -> ApiError:
    """`kind` is an ARN type such as `image-pipeline`, or the resource's own name."""
    name = RESOURCE_NAMES.get(kind, kind)
    return ApiError(
        "ResourceNotFoundException", f"The following required resource '{name}' cannot be found: '{arn}'."
    )


def already_exists(kind: str, arn: str | Arn) -> ApiError:
    name = RESOURCE_NAMES.get(kind, kind)
    return ApiError("ResourceAlreadyExistsException", f"The following resource '{name}' already exists: '{arn}'.")


def in_dependency(arn: str | Arn) -> ApiError:
    return ApiError(
        "ResourceDependencyException",
        f"Resource dependency error: The resource ARN '{arn}' has other resources depended on it.",
    )


def in_use(message: str) -> ApiError:
    return ApiError("ResourceInUseException", message)


def token_mismatch(token: str) -> ApiError:
    return ApiError(
        "IdempotentParameterMismatchException",
        f"The client token '{token}' was already used with different request parameters.",
    )


def dry_run_passed() -> ApiError:
    return ApiError("DryRunOperationException", "Request would have succeeded, but dryRun flag is set.")


def quota_exceeded(what: str, limit: int) -> ApiError:
    return ApiError("ServiceQuotaExceededException", f"You have reached the limit of {limit} {what}.")


def bad_page_token() -> ApiError:
    return ApiError("InvalidPaginationTokenException", "The pagination token is not valid for this request.")


def access_denied(principal: str, operation: str, resource: str) -> ApiError:
    return ApiError(
        "AccessDeniedException",
        f"User: {principal} is not authorized to perform: imagebuilder:{operation} on resource: {resource}",
    )


def forbidden(message: str) -> ApiError:
    """A denial by the service itself; a denial by a policy of the caller is access_denied()."""
    return ApiError("ForbiddenException", message)


def client_error(message: str) -> ApiError:
    """An identifier or a source that the caller cannot use in this way."""
    return ApiError("ClientException", message)


def unavailable(message: str, *, retry_after: int = 1) -> ApiError:
    return ApiError("ServiceUnavailableException", message, retry_after=retry_after)


def not_implemented(operation: str) -> ApiError:
    return ApiError("NotImplementedException", f"The operation {operation} is not built yet in this version.")
