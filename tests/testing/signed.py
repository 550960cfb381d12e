"""One signed HTTP request to any operation of the model, without a client library that would check it first."""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from testing.api import REGION, Api
from testing.loaded import service_model


@dataclass(frozen=True)
class SignedAnswer:
    """An answer as it came."""

    status: int
    error: str
    body: Any

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))


def send_signed(api: Api, operation: str, members: Mapping[str, Any]) -> SignedAnswer:
    """Send an operation with these members, whatever they are, and read the JSON of the answer."""
    known = service_model().operations[operation]
    places = {name: member.location for name, member in known.input.members.items()}
    query = [
        (known.input.members[name].wire_name, text)
        for name, value in members.items()
        if places.get(name) == "query"
        for text in (value if isinstance(value, list) else [value])
    ]
    target = known.path
    if known.label is not None:
        target += quote(str(members["resourceArn"]), safe="")
    if query:
        target += f"?{urlencode(query, quote_via=quote)}"
    rest = {name: value for name, value in members.items() if places.get(name, "body") == "body"}
    body = json.dumps(rest).encode() if "body" in known.locations else b""
    return _exchange(api, known.method, target, body)


def _exchange(api: Api, method: str, target: str, body: bytes) -> SignedAnswer:
    key = api.keys.keys[0]
    request = AWSRequest(method, api.url + target, data=body)
    SigV4Auth(Credentials(key.access_key_id, key.secret), "imagebuilder", REGION).add_auth(request)
    connection = http.client.HTTPConnection(urlsplit(api.url).netloc, timeout=30)
    try:
        connection.request(method, target, body or None, dict(request.headers.items()))
        answer = connection.getresponse()
        return SignedAnswer(answer.status, answer.headers.get("x-amzn-errortype", ""), json.loads(answer.read()))
    finally:
        connection.close()
