"""GetMarketplaceResource: no catalog of the Marketplace exists here (spec/api.md 4.9)."""

from __future__ import annotations

from imagesmith.resources.call import Call
from imagesmith.resources.errors import forbidden
from imagesmith.values.api import ApiRequest, ApiResponse


def get_resource(call: Call, request: ApiRequest) -> ApiResponse:
    """Raises ApiError: no account is entitled to a resource."""
    raise forbidden(
        f"Account {call.account} has no subscription to {request['resourceArn']}: there is no Marketplace here. "
        "Create the component from its document instead."
    )
