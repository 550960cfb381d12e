"""Documents of an image in a registry without a referrers API: pushed, listed by the fallback tag, fetched."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from imagesmith.artifacts.layout import OciLayout
from imagesmith.artifacts.referrers import Document, attach, attached
from imagesmith.artifacts.retry_policy import RetryPolicy
from imagesmith.distribution.client import RegistryClient, RegistryError
from imagesmith.distribution.push import push_image
from imagesmith.distribution.referrers import fallback_tag, fetch_manifest, fetch_referrers, push_referrers
from imagesmith.settings import Registry
from testing.registry_support import PASSWORD, USER, RunningRegistry, write_layout

KIND = "application/vnd.example.note"


def pushed(folder: Path, registry: Registry, repository: str) -> tuple[OciLayout, str]:
    """A layout whose image is in the registry."""
    digest = write_layout(folder, "web:1")
    push_image(
        folder, "web:1", digest=digest, registry=registry, repository=repository, tags=["1"],
        retry_policy=RetryPolicy(), cancellation=None, on_line=lambda _: None,
    )  # fmt: skip
    return OciLayout(folder), digest


@pytest.mark.tool
def test_documents_come_back_from_a_registry_without_a_referrers_api(
    tmp_path: Path, open_registry: RunningRegistry
) -> None:
    """Each is found by the image's digest, with its bytes; what was attached before stays."""
    registry = Registry(open_registry.host, insecure=True)
    layout, digest = pushed(tmp_path, registry, "notes/web")
    for number in (1, 2, 2):
        attach(layout, digest, Document(KIND, "text/plain", b"note %d" % number, {"number": str(number)}))
        push_referrers(registry, "notes/web", digest, attached(layout, digest))
    found = fetch_referrers(registry, "notes/web", digest, KIND)
    assert [item.document.data for item in found] == [b"note 1", b"note 2"]
    assert fetch_referrers(registry, "notes/web", digest, "application/other") == ()
    address = f"http://{open_registry.host}/v2/notes/web/manifests/{fallback_tag(digest)}"
    request = urllib.request.Request(address, headers={"Accept": "application/vnd.oci.image.index.v1+json"})
    with urllib.request.urlopen(request) as answer:
        index = json.load(answer)
    assert [entry["artifactType"] for entry in index["manifests"]] == [KIND, KIND]
    assert json.loads(fetch_manifest(registry, "notes/web", "1"))["schemaVersion"] == 2


@pytest.mark.tool
def test_a_login_is_used_and_its_lack_is_an_error_without_secrets(
    tmp_path: Path, login_registry: RunningRegistry
) -> None:
    """With user and password it works; with a wrong one the error names the request and not the password."""
    (tmp_path / "password").write_text(PASSWORD + "\n")
    (tmp_path / "wrong").write_text("wrong-word\n")
    good = Registry(login_registry.host, USER, str(tmp_path / "password"), insecure=True)
    layout, digest = pushed(tmp_path / "oci", good, "notes/login")
    attach(layout, digest, Document(KIND, "text/plain", b"note"))
    push_referrers(good, "notes/login", digest, attached(layout, digest))
    assert len(fetch_referrers(good, "notes/login", digest, KIND)) == 1
    bad = Registry(login_registry.host, USER, str(tmp_path / "wrong"), insecure=True)
    with pytest.raises(RegistryError, match="401") as caught:
        push_referrers(bad, "notes/login", digest, attached(layout, digest))
    assert "wrong-word" not in str(caught.value)


def test_a_registry_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """The error names the registry."""
    with pytest.raises(RegistryError, match=r"127\.0\.0\.1:1"):
        fetch_manifest(Registry("127.0.0.1:1", insecure=True), "web", "1")


class _Tokens(BaseHTTPRequestHandler):
    """A registry that wants a token of its own service, and has the referrers API."""

    def do_GET(self) -> None:
        if self.path.startswith("/token"):
            self._answer(200, {"token": "t0k" if "scope=repository%3Aweb" in self.path else ""})
        elif self.headers.get("Authorization") != "Bearer t0k":
            host = self.headers["Host"]
            self._answer(401, {}, {"WWW-Authenticate": f'Bearer realm="http://{host}/token",service="s"'})
        elif self.path == "/v2/web/referrers/sha256:1":
            self._answer(200, {"manifests": []})
        else:
            self._answer(404, {})

    def _answer(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


class _Pages(BaseHTTPRequestHandler):
    """A registry that gives out one referrer, or one tag, at a time, and links to the next as registries do."""

    link = '</v2/web/{path}?last={next}>; rel="next"'
    count = 3

    def do_GET(self) -> None:
        where, _, query = self.path.partition("?")
        path = where.removeprefix("/v2/web/")
        number = int(dict(item.split("=", 1) for item in query.split("&") if item).get("last", "0"))
        entry = {"digest": f"sha256:{number}", "artifactType": KIND}
        more = {"Link": self.link.format(path=path, next=number + 1)} if number + 1 < self.count else {}
        self._answer(json.dumps({"manifests": [entry], "tags": [f"v{number}"]}).encode(), more)

    def _answer(self, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


def pages(link: str = _Pages.link, count: int = _Pages.count) -> type[_Pages]:
    """Such a registry with links of this form, and this number of pages."""

    class Linked(_Pages):
        pass

    Linked.link, Linked.count = link, count
    return Linked


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of a registry on this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


LINKS = {
    "a path": '</v2/web/{path}?last={next}>; rel="next"',
    "an address": "<https://elsewhere.example/v2/web/{path}?last={next}>; rel=next",
    "a query": '<?last={next}>; rel="next"',
    "behind others": '</help>; rel="help", </v2/web/{path}?last={next}>; title="a"; rel="next"',
}


@pytest.mark.parametrize("link", LINKS.values(), ids=LINKS)
def test_every_page_of_a_list_is_read(link: str) -> None:
    """What is beyond the first page may be the failed test; the requests stay with the registry."""
    with serving(pages(link)) as host, RegistryClient(registry_at(host)) as client:
        assert client.tags("web") == ["v0", "v1", "v2"]
        assert len(client.referrers("web", "sha256:1")) == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"link": '</v2/web/{path}?last=1>; rel="next"'}, "the next page of"),
        ({"link": '</v2/other/list?last={next}>; rel="next"'}, "the next page of"),
        ({"link": '</v2/web/{path}>; rel="next"'}, "the next page of"),
        ({"count": 10_000}, "has more than 100 pages"),
    ],
    ids=["a circle", "another list", "no query", "without end"],
)
def test_a_list_without_end_is_refused(changes: dict[str, Any], words: str) -> None:
    """Half of a list is not taken for all of it."""
    with serving(pages(**changes)) as host, RegistryClient(registry_at(host)) as client:
        with pytest.raises(RegistryError, match=words):
            client.tags("web")
        with pytest.raises(RegistryError, match=words):
            client.referrers("web", "sha256:1")


def registry_at(host: str) -> Registry:
    return Registry(host, insecure=True)


@pytest.fixture
def token_registry() -> Iterator[str]:
    with serving(_Tokens) as host:
        yield host


def test_tokens_are_asked_for_where_the_registry_says(token_registry: str) -> None:
    """The challenge is answered with a token for the repository; the referrers API is used where there is one."""
    registry = Registry(token_registry, insecure=True)
    with RegistryClient(registry) as client:
        (page,) = client.referrers("web", "sha256:1")
        assert json.loads(page) == {"manifests": []}
        assert client.manifest("web", "none", accept="*/*") is None
    assert fetch_referrers(registry, "web", "sha256:1", KIND) == ()
