"""Signatures: who may come in, and every way to be refused (spec/api.md 2.4)."""

from __future__ import annotations

import hashlib
import hmac
import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imagesmith.accounts.keys import AccessKey, KeyRing
from imagesmith.resources.errors import ApiError
from imagesmith.wire.messages import Request
from imagesmith.wire.signature import Trusting, Verifier
from testing.wire_samples import request
from testing.wire_support import ACCOUNT, KEY, PIPELINE_ARN, REGION, TEMPORARY, Answer, Wire

ENCODED = quote(PIPELINE_ARN, safe="")
GET = f"/GetImagePipeline?imagePipelineArn={ENCODED}"
EMPTY = hashlib.sha256(b"").hexdigest()
MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access "
    "Key and signing method. Consult the service documentation for details."
)


def own_signature(
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    *,
    names: list[str],
    payload: str = EMPTY,
    scope: str = f"{REGION}/imagebuilder/aws4_request",
    key: AccessKey = KEY,
) -> dict[str, str]:
    """Headers with an Authorization computed here, from the published rules and without botocore."""
    stamp = headers["x-amz-date"]
    lines = [method, quote(path, safe="/-_.~"), query]
    lines += [f"{name}:{headers[name]}" for name in names] + ["", ";".join(names), payload]
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    secret = f"AWS4{key.secret}".encode()
    for part in (stamp[:8], *scope.split("/")):
        secret = hmac.new(secret, part.encode(), "sha256").digest()
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, f"{stamp[:8]}/{scope}", digest])
    signature = hmac.new(secret, text.encode(), "sha256").hexdigest()
    credential = f"{key.access_key_id}/{stamp[:8]}/{scope}"
    value = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={';'.join(names)}, Signature={signature}"
    return {**{name: value for name, value in headers.items() if name != "host"}, "Authorization": value}


def basic(wire: Wire, **more: str) -> dict[str, str]:
    stamp = wire.clock().strftime("%Y%m%dT%H%M%SZ")
    return {"host": wire.url.removeprefix("http://"), "x-amz-date": stamp, **more}


def assert_refused(answer: Answer, status: int, code: str, message: str) -> None:
    assert (answer.status, answer.error) == (status, code)
    assert re.fullmatch(message, answer.message), answer.message


def test_an_independent_signature_is_accepted(wire: Wire) -> None:
    """A signature computed from the published rules alone, without botocore, is good."""
    headers = own_signature("GET", "/GetImagePipeline", f"imagePipelineArn={ENCODED}", basic(wire),
                            names=["host", "x-amz-date"])  # fmt: skip
    assert wire.send("GET", GET, headers=headers).status == 200


def test_the_path_is_encoded_once_more(wire: Wire) -> None:
    """The canonical path is the raw path encoded again: `%3A` becomes `%253A`."""
    headers = own_signature("GET", f"/tags/{ENCODED}", "", basic(wire), names=["host", "x-amz-date"])
    assert wire.send("GET", f"/tags/{ENCODED}", headers=headers).status == 200


def test_a_literal_query_may_be_signed_in_its_encoded_form(wire: Wire) -> None:
    """A client that sends literal colons but signs the encoded and sorted form, as the rules say, is understood."""
    for sent in (f"imagePipelineArn={PIPELINE_ARN}&a=b", f"a=b&imagePipelineArn={PIPELINE_ARN}"):
        signed = f"a=b&imagePipelineArn={ENCODED}"
        headers = own_signature("GET", "/GetImagePipeline", signed, basic(wire), names=["host", "x-amz-date"])
        assert wire.send("GET", f"/GetImagePipeline?{sent}", headers=headers).status == 200
        assert wire.call("GET", f"/GetImagePipeline?{sent}").status == 200


def test_repeated_and_padded_headers_are_signed_by_the_rules(wire: Wire) -> None:
    """Values of a repeated header are joined with commas, blanks are collapsed, and text is UTF-8."""
    given = basic(wire, **{"x-amz-meta": "a b,c", "x-note": "zwei Wörter"})
    headers = own_signature("GET", "/GetImagePipeline", f"imagePipelineArn={ENCODED}", given,
                            names=["host", "x-amz-date", "x-amz-meta", "x-note"])  # fmt: skip
    sent = {**headers, "X-Amz-Meta": "  a   b ", "x-amz-meta": "c", "x-note": "zwei   Wörter"}
    del sent["x-amz-meta"]
    sent = {"X-Amz-Meta": "  a   b ", **sent, "x-amz-Meta": "c"}
    assert wire.send("GET", GET, headers=sent).status == 200


def test_user_agents_may_be_signed(wire: Wire) -> None:
    """Headers that botocore never signs are verified all the same when a client signs them."""
    given = basic(wire, **{"user-agent": "own/1.0"})
    headers = own_signature("GET", "/GetImagePipeline", f"imagePipelineArn={ENCODED}", given,
                            names=["host", "user-agent", "x-amz-date"])  # fmt: skip
    assert wire.send("GET", GET, headers=headers).status == 200
    assert_refused(wire.send("GET", GET, headers={**headers, "user-agent": "own/2.0"}), 403,
                   "InvalidSignatureException", re.escape(MISMATCH))  # fmt: skip


def test_requests_without_a_signature_are_refused(wire: Wire) -> None:
    """Neither header nor query signature: MissingAuthenticationTokenException."""
    for headers in ({}, {"x-amz-date": "20300101T000000Z"}):
        answer = wire.send("GET", GET, headers=headers)
        assert_refused(answer, 403, "MissingAuthenticationTokenException", "Missing Authentication Token")
    assert wire.dispatcher.operation == ""


@pytest.mark.parametrize("name", ["Credential", "SignedHeaders", "Signature"])
@pytest.mark.parametrize("empty", [True, False])
def test_incomplete_headers_are_refused(wire: Wire, name: str, empty: bool) -> None:
    """An Authorization header that lacks one of its three parts says which."""
    headers = wire.sign("GET", GET)
    parts = headers["Authorization"].removeprefix("AWS4-HMAC-SHA256 ").split(", ")
    kept = [f"{name}=" if empty and part.startswith(name) else part for part in parts]
    kept = kept if empty else [part for part in parts if not part.startswith(name)]
    headers["Authorization"] = "AWS4-HMAC-SHA256 " + ", ".join(kept)
    answer = wire.send("GET", GET, headers=headers)
    assert_refused(
        answer, 400, "IncompleteSignatureException", f"Authorization header requires '{name}' parameter."
    )


@pytest.mark.parametrize(
    "value", ["Basic YTpi", "Bearer x", "AWS4-ECDSA-P256-SHA256 Credential=a", "AWS4-HMAC-SHA256", "x"]
)
def test_other_schemes_are_refused(wire: Wire, value: str) -> None:
    """Only AWS4-HMAC-SHA256 is spoken here."""
    assert_refused(wire.send("GET", GET, headers={**wire.sign("GET", GET), "Authorization": value}), 400,
                   "IncompleteSignatureException", ".*Authorization header .*")  # fmt: skip


@pytest.mark.parametrize("value", ["", "yesterday", "20300101T000000", "20301301T000000Z", "2030-01-01T00:00:00Z"])
def test_bad_dates_are_refused(wire: Wire, value: str) -> None:
    """Without a readable date there is nothing to verify."""
    answer = wire.send("GET", GET, headers={**wire.sign("GET", GET), "X-Amz-Date": value})
    assert_refused(answer, 400, "IncompleteSignatureException", ".*[dD]ate.*")


def test_the_date_header_will_do(wire: Wire) -> None:
    """A client may sign `Date` instead of `X-Amz-Date`."""
    headers = wire.sign("GET", GET, headers={"Date": "x"})
    assert "X-Amz-Date" not in headers
    assert wire.send("GET", GET, headers=headers).status == 200


def test_unknown_keys_are_refused(wire: Wire) -> None:
    """A key id that nobody wrote into the key file: UnrecognizedClientException."""
    for key in (AccessKey("AKIANOBODYKNOWSME000", "s" * 40, ACCOUNT, ""), AccessKey("x", "y", "", "")):
        answer = wire.call("GET", GET, key=key)
        assert_refused(
            answer, 403, "UnrecognizedClientException", "The security token included in the request is invalid."
        )


def test_wrong_secrets_are_refused(wire: Wire) -> None:
    """A signature with another secret: InvalidSignatureException."""
    other = AccessKey(KEY.access_key_id, "z" * 40, ACCOUNT, "")
    assert_refused(wire.call("GET", GET, key=other), 403, "InvalidSignatureException", re.escape(MISMATCH))
    assert wire.dispatcher.operation == ""


@pytest.mark.parametrize("part", ["body", "query", "path", "method", "header", "signature", "host"])
def test_any_change_after_signing_is_noticed(wire: Wire, part: str) -> None:
    """Body, query, path, method, host and signed headers are all covered."""
    body = b'{"maxResults": 1}'
    headers = wire.sign("POST", "/ListImagePipelines", body, headers={"X-Amz-Meta": "a"})
    method, target = "POST", "/ListImagePipelines"
    match part:
        case "body":
            body = b'{"maxResults": 2}'
        case "query":
            target += "?a=b"
        case "path":
            target = "/ListImageRecipes"
        case "method":
            method = "PUT"
        case "header":
            headers["X-Amz-Meta"] = "b"
        case "host":
            headers["Host"] = "elsewhere"
        case "signature":
            headers["Authorization"] = headers["Authorization"][:-1] + "g"
    if part == "host":
        asked = Request("POST", "/ListImagePipelines", "", {k.lower(): [v] for k, v in headers.items()}, body)
        with pytest.raises(ApiError, match="InvalidSignatureException"):
            verify(Verifier(KeyRing([KEY]), clock=wire.clock), asked)
        return
    assert_refused(wire.send(method, target, body, headers=headers), 403, "InvalidSignatureException",
                   re.escape(MISMATCH))  # fmt: skip


def verify(verifier: Verifier, asked: Request) -> Any:
    return verifier.check_body(verifier.check_head(asked), asked)


@pytest.mark.parametrize("signature", ["0", "g" * 64, "ä", "A" * 64, "0" * 10_000])
def test_signatures_of_any_form_are_compared(wire: Wire, signature: str) -> None:
    """A signature that is no digest at all is simply wrong."""
    headers = wire.sign("GET", GET)
    headers["Authorization"] = re.sub("Signature=.*", f"Signature={signature}", headers["Authorization"])
    assert_refused(wire.send("GET", GET, headers=headers), 403, "InvalidSignatureException", re.escape(MISMATCH))


def test_hosts_and_amazon_headers_must_be_signed(wire: Wire) -> None:
    """A header that changes the meaning of a request cannot be added without the key."""
    headers = {**wire.sign("GET", GET), "X-Amz-Extra": "a"}
    assert_refused(wire.send("GET", GET, headers=headers), 403, "InvalidSignatureException",
                   "'x-amz-extra' must be a 'SignedHeader' in the AWS Authorization.")  # fmt: skip
    headers = own_signature(
        "GET", "/GetImagePipeline", f"imagePipelineArn={ENCODED}", basic(wire), names=["x-amz-date"]
    )
    assert_refused(wire.send("GET", GET, headers=headers), 403, "InvalidSignatureException",
                   "'Host' must be a 'SignedHeader' in the AWS Authorization.")  # fmt: skip


def test_headers_that_are_signed_but_absent_are_noticed(wire: Wire) -> None:
    """Taking a signed header away breaks the signature."""
    headers = wire.sign("GET", GET, headers={"X-Note": "a"})
    del headers["X-Note"]
    assert_refused(wire.send("GET", GET, headers=headers), 403, "InvalidSignatureException", re.escape(MISMATCH))


@pytest.mark.parametrize(
    ("scope", "status", "code", "message"),
    [
        (f"{REGION}/s3/aws4_request", 403, "InvalidSignatureException", ".*correct service: 'imagebuilder'."),
        (f"{REGION}/imagebuilder/aws5", 403, "InvalidSignatureException", ".*valid terminator: 'aws4_request'."),
        ("EU West/imagebuilder/aws4_request", 400, "IncompleteSignatureException", ".*'Credential' parameter."),
        ("eu_west/imagebuilder/aws4_request", 403, "InvalidSignatureException", ".*valid Region."),
        ("/imagebuilder/aws4_request", 403, "InvalidSignatureException", ".*valid Region."),
        ("imagebuilder/aws4_request", 400, "IncompleteSignatureException", "The Credential must be .*"),
        (f"{REGION}/imagebuilder/x/aws4_request", 400, "IncompleteSignatureException", "The Credential must be .*"),
    ],
)  # fmt: skip
def test_wrong_scopes_are_refused(wire: Wire, scope: str, status: int, code: str, message: str) -> None:
    """The scope must name a region, this service and the terminator."""
    headers = own_signature("GET", "/GetImagePipeline", f"imagePipelineArn={ENCODED}", basic(wire),
                            names=["host", "x-amz-date"], scope=scope)  # fmt: skip
    assert_refused(wire.send("GET", GET, headers=headers), status, code, message)


def test_the_day_of_the_scope_must_be_the_day_of_the_request(wire: Wire) -> None:
    """A scope for another day does not go with the date header."""
    headers = wire.sign("GET", GET)
    today = f"{wire.clock():%Y%m%d}"
    headers["Authorization"] = headers["Authorization"].replace(f"/{today}/", "/20200101/")
    assert_refused(wire.send("GET", GET, headers=headers), 403, "InvalidSignatureException",
                   f"Date in Credential scope does not match the date of the request: {today}.")  # fmt: skip


@pytest.mark.parametrize(
    ("skew", "message"),
    [
        (timedelta(minutes=4, seconds=55), None),
        (timedelta(minutes=-4, seconds=-55), None),
        (timedelta(minutes=5, seconds=5), r"Signature expired: \d{8}T\d{6}Z is now earlier than .* - 5 min\.\)"),
        (timedelta(days=400), r"Signature expired: .*"),
        (timedelta(minutes=-5, seconds=-5), r"Signature not yet current: \d{8}T\d{6}Z is still later .* 5 min\.\)"),
    ],
)  # fmt: skip
def test_clocks_may_differ_by_five_minutes(wire: Wire, skew: timedelta, message: str | None) -> None:
    """A request signed more than five minutes away from the server's time is refused with both times."""
    wire.clock.offset = skew
    answer = wire.call("GET", GET)
    if message is None:
        assert answer.status == 200
    else:
        assert_refused(answer, 403, "InvalidSignatureException", message)


def test_temporary_keys_need_their_token(wire: Wire) -> None:
    """A temporary key works with its own session token only, and a lasting key with none."""
    assert wire.call("GET", GET, key=TEMPORARY).status == 200
    assert wire.dispatcher.caller is not None
    bare = AccessKey(TEMPORARY.access_key_id, TEMPORARY.secret, ACCOUNT, "")
    wrong = AccessKey(TEMPORARY.access_key_id, TEMPORARY.secret, ACCOUNT, "", session_token="another")
    added = AccessKey(KEY.access_key_id, KEY.secret, ACCOUNT, "", session_token="any")
    for key in (bare, wrong, added):
        answer = wire.call("GET", GET, key=key)
        assert_refused(
            answer, 403, "UnrecognizedClientException", "The security token included in the request is invalid."
        )


def test_temporary_keys_expire(wire: Wire) -> None:
    """Past its life a session token is ExpiredTokenException."""
    assert TEMPORARY.expires is not None
    wire.clock.offset = TEMPORARY.expires - datetime.now(UTC)
    answer = wire.call("GET", GET, key=TEMPORARY)
    assert_refused(answer, 403, "ExpiredTokenException", "The security token included in the request is expired")


@pytest.mark.parametrize(
    ("announced", "good"),
    [
        (hashlib.sha256(b"{}").hexdigest(), True),
        (EMPTY, False),
        ("UNSIGNED-PAYLOAD", False),
        ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", False),
        ("STREAMING-UNSIGNED-PAYLOAD-TRAILER", False),
    ],
)
def test_the_body_is_always_part_of_what_is_signed(wire: Wire, announced: str, good: bool) -> None:
    """A digest in a header must be the body's own; unsigned and streamed bodies are refused."""
    given = basic(wire, **{"x-amz-content-sha256": announced})
    headers = own_signature("POST", "/ListImagePipelines", "", given,
                            names=["host", "x-amz-content-sha256", "x-amz-date"], payload=announced)  # fmt: skip
    answer = wire.send("POST", "/ListImagePipelines", b"{}", headers=headers)
    if good:
        assert answer.status == 200
    else:
        assert_refused(answer, 403, "InvalidSignatureException", ".*'x-amz-content-sha256' is not .*")


def presigned(client: Any, **options: Any) -> str:
    url: str = client.generate_presigned_url(
        "get_image_pipeline", Params={"imagePipelineArn": PIPELINE_ARN}, HttpMethod="GET", **options
    )
    return url


def test_presigned_requests_are_accepted(wire: Wire, client: Any) -> None:
    """A URL that boto3 signed in its query needs no header."""
    target = presigned(client).removeprefix(wire.url)
    assert wire.send("GET", target, headers={}).status == 200
    assert wire.dispatcher.request == {"imagePipelineArn": PIPELINE_ARN}
    session = boto3.Session(TEMPORARY.access_key_id, TEMPORARY.secret, TEMPORARY.session_token, region_name=REGION)
    temporary = session.client("imagebuilder", endpoint_url=wire.url)
    assert wire.send("GET", presigned(temporary).removeprefix(wire.url), headers={}).status == 200
    temporary.close()


def test_presigned_requests_expire(wire: Wire, client: Any) -> None:
    """A presigned URL is good for the time it names, and no longer."""
    target = presigned(client, ExpiresIn=600).removeprefix(wire.url)
    wire.clock.offset = timedelta(minutes=9)
    assert wire.send("GET", target, headers={}).status == 200
    wire.clock.offset = timedelta(minutes=11)
    answer = wire.send("GET", target, headers={})
    assert_refused(answer, 403, "InvalidSignatureException", r"Signature expired: .* - 600 s\.\)")


@pytest.mark.parametrize(
    ("change", "replacement", "status", "message"),
    [
        ("X-Amz-Signature=", "X-Amz-Signature=0", 403, re.escape(MISMATCH)),
        ("imagePipelineArn=arn", "imagePipelineArn=brn", 403, re.escape(MISMATCH)),
        ("X-Amz-Expires=600", "X-Amz-Expires=601", 403, re.escape(MISMATCH)),
        ("X-Amz-Expires=600", "X-Amz-Expires=604801", 400, "X-Amz-Expires must be .*"),
        ("X-Amz-Expires=600", "X-Amz-Expires=0", 400, "X-Amz-Expires must be .*"),
        ("X-Amz-Expires=600", "X-Amz-Expires=-1", 400, "X-Amz-Expires must be .*"),
        ("X-Amz-Expires=600", "", 400, ".* must include 'X-Amz-Expires'."),
        ("X-Amz-Signature=", "Signature=", 400, ".* must include 'X-Amz-Signature'."),
        ("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=date", 403, "'Host' must be .*"),
        ("HMAC-SHA256", "HMAC-MD5", 400, "X-Amz-Algorithm must be AWS4-HMAC-SHA256."),
    ],
)
def test_changed_presigned_requests_are_refused(
    wire: Wire, client: Any, change: str, replacement: str, status: int, message: str
) -> None:
    """Every part of a presigned URL is needed and covered."""
    target = presigned(client, ExpiresIn=600).removeprefix(wire.url)
    assert change in target
    answer = wire.send("GET", target.replace(change, replacement), headers={})
    code = "InvalidSignatureException" if status == 403 else "IncompleteSignatureException"
    assert_refused(answer, status, code, message)


TOKEN = st.text("abcXYZ019-_.~", min_size=1, max_size=8)
VALUE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x24F, exclude_characters="\x7f"), max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    segments=st.lists(VALUE, min_size=1, max_size=3),
    query=st.lists(st.tuples(TOKEN, VALUE), max_size=4),
    headers=st.dictionaries(TOKEN.map(lambda name: f"x-h-{name.strip('~.').lower()}"), TOKEN, max_size=3),
    body=st.binary(max_size=50),
)
def test_whatever_botocore_signs_is_accepted(
    wire: Wire, segments: list[str], query: list[tuple[str, str]], headers: dict[str, str], body: bytes
) -> None:
    """Any path, query, headers and body that botocore signs pass authentication and get to the route check."""
    path = "/x/" + "/".join(quote(segment, safe="") for segment in segments if segment.strip("."))
    text = "&".join(f"{name}={quote(value, safe='-_.~')}" for name, value in query)
    answer = wire.call("POST", path + (f"?{text}" if text else ""), body, headers=headers)
    assert (answer.status, answer.error) == (404, "UnknownOperationException")


def trusting(headers: dict[str, list[str]], query: str = "") -> tuple[str, str, str]:
    mode = Trusting(account="000000000000", region="us-east-1", partition="aws-cn")
    asked = Request("GET", "/", query, headers, b"")
    found = mode.check_body(mode.check_head(asked), asked)
    return found.account, found.region, found.principal


@pytest.mark.parametrize(
    ("authorization", "account", "region"),
    [
        ("", "000000000000", "us-east-1"),
        ("nonsense", "000000000000", "us-east-1"),
        ("Credential=210987654321/20300101/eu-north-1/s3/aws4_request, Signature=x", "210987654321", "eu-north-1"),
        ("Credential=test/20300101/eu-north-1/imagebuilder/aws4_request", "000000000000", "eu-north-1"),
        ("Credential=test/20300101/EU NORTH/x/aws4_request", "000000000000", "us-east-1"),
        ("Credential=٢١٠٩٨٧٦٥٤٣٢١/20300101/a:b/x/aws4_request", "000000000000", "us-east-1"),
    ],
)
def test_mode_none_believes_what_it_is_told(authorization: str, account: str, region: str) -> None:
    """Any signature or none comes in; twelve digits as a key id are the account, the scope names the region."""
    expected = (account, region, f"arn:aws-cn:iam::{account}:root")
    given = {"authorization": [f"AWS4-HMAC-SHA256 {authorization}"]} if authorization else {}
    assert trusting(given) == expected


def test_mode_none_reads_presigned_queries() -> None:
    """The credential may also stand in the query."""
    query = "X-Amz-Credential=210987654321%2F20300101%2Feu-north-1%2Fimagebuilder%2Faws4_request"
    assert trusting({}, query)[:2] == ("210987654321", "eu-north-1")


def test_signing_keys_are_kept_within_a_bound(wire: Wire) -> None:
    """Derived keys are cached per key, day and region, and only so many of them."""
    verifier = Verifier(KeyRing([KEY]), clock=wire.clock)
    for index in range(1100):
        headers = wire.sign("GET", GET, region=f"region-{index}")
        given = {name.lower(): [value] for name, value in headers.items()}
        given["host"] = [wire.url.removeprefix("http://")]
        path, _, query = GET.partition("?")
        assert verify(verifier, Request("GET", path, query, given, b"")).region == f"region-{index}"
    assert verifier._signing_key.cache_info().currsize == 1024


def test_regions_come_from_the_scope(wire: Wire) -> None:
    """The region of the signature is the region of the caller."""
    body = {**request(wire.api.operations["UpdateImagePipeline"].input), "clientToken": str(uuid.uuid4())}
    assert wire.call("PUT", "/UpdateImagePipeline", body, region="local").status == 200
    assert wire.dispatcher.caller is not None
    assert wire.dispatcher.caller.region == "local"
