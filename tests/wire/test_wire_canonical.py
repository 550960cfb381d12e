"""Requests that botocore's canonicalisation leaves as they are."""

from __future__ import annotations

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st

from imagesmith.wire.canonical import _BOTOCORE, _Headers, _Signed, canonical_requests, plain_request
from imagesmith.wire.messages import Request

TEXT = st.text("aZ09-_.~%/=&+ \té:", max_size=8)
PATH = st.one_of(st.just("/UpdateImagePipeline"), TEXT.map(lambda text: f"/{text}"))
NAMES = st.lists(st.sampled_from(["host", "x-amz-date", "content-type", "a b", "Host", "x-é"]), max_size=4)


@settings(max_examples=400, deadline=None)
@given(
    method=st.sampled_from(["GET", "PUT", "put"]), path=PATH, query=st.one_of(st.just("a=b%2Fc"), TEXT),
    names=st.one_of(NAMES, NAMES.map(sorted)), values=st.lists(TEXT, min_size=1, max_size=2),
)  # fmt: skip
def test_what_is_left_as_it_is_is_botocores_text(
    method: str, path: str, query: str, names: list[str], values: list[str]
) -> None:
    """Whenever the short way gives a text, it is the one that botocore makes, and nothing else is in its place."""
    request = Request(method, path, query, dict.fromkeys(names, values), b"")
    digest = hashlib.sha256(b"").hexdigest()
    headers = _Headers(dict.fromkeys(names, values))
    expected = _BOTOCORE.text(_Signed(method, path, query, headers, digest))
    assert plain_request(request, query, names, digest) in (None, expected)
    assert next(canonical_requests(request, query, names, digest)) == expected


def test_usual_requests_go_the_short_way() -> None:
    """A change and a read as every SDK signs them need no canonicalisation."""
    headers = {"host": ["x"], "x-amz-date": ["20300101T000000Z"]}
    for path, query in (("/UpdateImagePipeline", ""), ("/GetImagePipeline", "imagePipelineArn=arn%3Aaws%3A1")):
        assert plain_request(Request("PUT", path, query, headers, b""), query, sorted(headers), "0" * 64)
