"""Which words of a failed transfer are final."""

from __future__ import annotations

import pytest

from imagesmith.artifacts.refusals import is_permanent, what_to_try
from imagesmith.settings import Registry

DIGEST = "sha256:" + "401403404" * 7 + "4"


@pytest.mark.parametrize(
    "text",
    [
        "checking whether a blob exists in r.example/a: unauthorized: authentication required",
        "Error writing manifest: denied: requested access to the resource is denied",
        "initiating layer upload: name unknown: The repository does not exist",
        "uploading manifest: name invalid: invalid repository name",
        "writing manifest: invalid status code from registry 403 (Forbidden)",
        "received unexpected HTTP status: 401 Unauthorized",
        "uploading manifest latest to r.example/a: manifest invalid: manifest invalid",
        "uploading manifest: unsupported: The operation is unsupported.",
        "tls: failed to verify certificate: x509: certificate signed by unknown authority",
    ],
)
def test_refusals_are_permanent(text: str) -> None:
    """A refusal by login, right, name, format or certificate is final."""
    assert is_permanent(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dial tcp 127.0.0.1:5000: connect: connection refused",
        "dial tcp: lookup r.example: no such host",
        "received unexpected HTTP status: 503 Service Unavailable",
        "received unexpected HTTP status: 429 Too Many Requests",
        "toomanyrequests: Rate exceeded",
        "blob upload unknown: blob upload unknown to registry",
        f"trying to reuse blob {DIGEST} at destination: EOF",
        "Head http://127.0.0.1:4040/v2/: read: connection reset by peer",
    ],
)
def test_passing_troubles_are_not_permanent(text: str) -> None:
    """Network and load troubles pass, and digits of a digest or a port are not a status."""
    assert not is_permanent(text)


def test_manifest_that_appears_late() -> None:
    """A manifest missing right after the push may appear; a missing repository for a push will not."""
    text = "reading manifest 1 in r.example/a: manifest unknown: manifest unknown"
    assert not is_permanent(text, reading=True)


def test_advice_names_the_setting() -> None:
    """The advice for each refusal names what the operator can change."""
    anonymous = Registry(url="r.example")
    known = Registry(url="r.example", username="smith", password_file="/run/password")
    assert "username and password_file" in what_to_try("unauthorized: authentication required", anonymous)
    assert "/run/password" in what_to_try("unauthorized: authentication required", known)
    assert "to push to this" in what_to_try("denied: no", known)
    assert "insecure = true" in what_to_try("server gave HTTP response to HTTPS client", known)
    assert "r.example" in what_to_try("connection refused", known)
