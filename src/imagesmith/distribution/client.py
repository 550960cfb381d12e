"""A small client of the OCI distribution protocol, for small artifacts; skopeo copies the images themselves.

    request --401--> Basic header, or a token from the realm that the answer names --> request again

It supports referrers and removal: a manifest or a blob by digest or tag, read or written whole. Sizes are bounded,
and credentials go only to the registry and to the token service that it names.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlencode, urljoin, urlsplit

import urllib3

from imagesmith.artifacts.oci import digest_of
from imagesmith.artifacts.retry_policy import PASSING, RetryPolicy, retry_after
from imagesmith.distribution.pages import BadLink, next_page
from imagesmith.retries import Failure
from imagesmith.settings import Registry

MAX_DOCUMENT = 128 * 1024 * 1024
MAX_MANIFEST = 8 * 1024 * 1024
_MAX_TOKEN = 64 * 1024
MAX_TAGS = 4000
"""Tags of a repository that are compared before a manifest is removed."""
_MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json",
)  # fmt: skip
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
Value = TypeVar("Value")
_TIMEOUT = urllib3.Timeout(connect=10, read=60)


class RegistryError(RuntimeError):
    """A request to a registry failed; the text names the request and the answer, never a credential.

    `passing`: a later request may succeed, after `asked` seconds if the registry named a time.
    """

    def __init__(self, message: str, *, passing: bool = False, asked: float = 0.0) -> None:
        super().__init__(message)
        self.passing = passing
        self.asked = asked


class RegistryClient:
    """Client of one registry; close it after use."""

    def __init__(self, registry: Registry, retry_policy: RetryPolicy | None = None) -> None:
        self._registry = registry
        self._retry_policy = retry_policy or RetryPolicy()
        host, _, path = registry.url.rstrip("/").partition("/")
        self._host = host
        self._prefix = f"{path}/" if path else ""
        self._http = urllib3.PoolManager(timeout=_TIMEOUT)
        if registry.insecure:
            self._http = urllib3.PoolManager(timeout=_TIMEOUT, cert_reqs=ssl.CERT_NONE, assert_hostname=False)
        self._base = ""
        self._authorization: dict[str, str] = {}

    def __enter__(self) -> RegistryClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.clear()

    def manifest(self, repository: str, reference: str, *, accept: str) -> bytes | None:
        """The bytes of a manifest by digest or tag; None if it is missing. Raises RegistryError."""
        return self._read(repository, f"manifests/{reference}", limit=MAX_MANIFEST, headers={"Accept": accept})

    def blob(self, repository: str, digest: str) -> bytes | None:
        """The bytes of a blob, checked against its digest; None if it is missing. Raises RegistryError."""
        data = self._read(repository, f"blobs/{digest}", limit=MAX_DOCUMENT, headers={})
        if data is not None and digest_of(data) != digest:
            raise RegistryError(f"registry {self._registry.url} returned other bytes for {repository}@{digest}")
        return data

    def referrers(self, repository: str, digest: str) -> list[bytes]:
        """The pages of the referrers API's answer; none if the registry lacks it. Raises RegistryError."""
        found = self._pages(repository, f"referrers/{digest}", lacking=lambda status: status != 200)
        return found if found and found[0][:1] == b"{" else []

    def put_blob(self, repository: str, data: bytes) -> None:
        """Store a blob unless it exists. Raises RegistryError."""
        # as a whole: an interrupted upload is not resumed
        self._patiently(lambda: self._put_blob(repository, data))

    def _put_blob(self, repository: str, data: bytes) -> None:
        digest = digest_of(data)
        if self._require_available(self._request("HEAD", repository, f"blobs/{digest}")).status == 200:
            return
        begun = self._expect(self._request("POST", repository, "blobs/uploads/"), 202, "starting an upload")
        location = urljoin(f"{self._base}/", begun.headers.get("Location", ""))
        location += ("&" if urlsplit(location).query else "?") + urlencode({"digest": digest})
        headers = {"Content-Type": "application/octet-stream"}
        if urlsplit(location).netloc == self._host:
            headers |= self._authorization
        self._expect(self._send("PUT", location, headers, data), 201, f"uploading {digest}")

    def put_manifest(self, repository: str, reference: str, data: bytes, media_type: str) -> Mapping[str, str]:
        """Store a manifest under a digest or tag; returns the headers of the answer. Raises RegistryError."""

        def put() -> Mapping[str, str]:
            answer = self._request("PUT", repository, f"manifests/{reference}", {"Content-Type": media_type}, data)
            return self._expect(answer, 201, f"storing the manifest {reference}").headers

        return self._patiently(put)

    def digest_of_tag(self, repository: str, tag: str) -> str:
        """The digest that a tag points to; empty if there is none. Raises RegistryError."""

        def head() -> str:
            answer = self._request("HEAD", repository, f"manifests/{tag}", {"Accept": ", ".join(_MANIFESTS)})
            if answer.status == 404:
                return ""
            return self._expect(answer, 200, f"reading {repository}:{tag}").headers.get("Docker-Content-Digest", "")

        return self._patiently(head)

    def tags(self, repository: str) -> list[str]:
        """The tags of a repository, at most MAX_TAGS. Raises RegistryError, also if there are more."""
        pages = self._pages(repository, f"tags/list?n={MAX_TAGS + 1}", lacking=lambda status: status == 404)
        try:
            found = [str(tag) for data in pages for tag in (json.loads(data).get("tags") or ())]
        except (ValueError, AttributeError) as error:
            raise RegistryError(f"{self._registry.url} returned no list of tags of {repository}") from error
        if len(found) > MAX_TAGS:
            raise RegistryError(f"the repository {repository} has more than {MAX_TAGS} tags")
        return found

    def delete_manifest(self, repository: str, reference: str) -> None:
        """Remove a manifest by digest or tag; one that is gone is removed. Raises RegistryError."""

        def delete() -> None:
            answer = self._request("DELETE", repository, f"manifests/{reference}")
            if answer.status not in (200, 404):
                self._expect(answer, 202, f"removing {repository}@{reference}")

        self._patiently(delete)

    def _read(self, repository: str, path: str, *, limit: int, headers: Mapping[str, str]) -> bytes | None:
        def read() -> bytes | None:
            answer = self._request("GET", repository, path, headers, limit=limit)
            if answer.status == 404:
                return None
            return self._expect(answer, 200, f"reading {repository}/{path}").data

        return self._patiently(read)

    def _pages(self, repository: str, path: str, *, lacking: Callable[[int], bool]) -> list[bytes]:
        """All pages of a list; none if the status of the first says that there is no list. Raises RegistryError."""
        found: list[bytes] = []
        while path:
            answer = self._patiently(partial(self._page, repository, path))
            if not found and lacking(answer.status):
                return []
            found.append(self._expect(answer, 200, f"reading {repository}/{path}").data)
            try:
                path = next_page(path, answer.headers.get("Link", ""), found)
            except BadLink as error:
                raise RegistryError(f"registry {self._registry.url}: {error}") from error
        return found

    def _page(self, repository: str, path: str) -> _Answer:
        return self._require_available(self._request("GET", repository, path))

    def _patiently(self, call: Callable[[], Value]) -> Value:
        """The result of `call`, with further attempts while the registry is unavailable."""

        def forget_base(_failure: Failure, _pause: float) -> None:
            self._base = ""

        return self._retry_policy.retrying(
            call,
            retry=lambda failure: isinstance(failure.error, RegistryError) and failure.error.passing,
            asked=lambda failure: failure.error.asked if isinstance(failure.error, RegistryError) else 0.0,
            before_retry=forget_base,
        )

    def _require_available(self, answer: _Answer) -> _Answer:
        """The answer, also with another status than 200. Raises RegistryError if the registry is unavailable."""
        return self._expect(answer, 200, "checking for existing content") if answer.status in PASSING else answer

    def _expect(self, answer: _Answer, status: int, doing: str) -> _Answer:
        if answer.status != status:
            words = answer.data[:300].decode(errors="replace").strip()
            asked = retry_after(answer.headers.get("Retry-After", ""), datetime.now(UTC))
            raise RegistryError(
                f"registry {self._registry.url}: {doing}: HTTP {answer.status} {words}",
                passing=answer.status in PASSING, asked=asked,
            )  # fmt: skip
        return answer

    def _request(
        self,
        method: str,
        repository: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        *,
        limit: int = MAX_MANIFEST,
    ) -> _Answer:
        self._base = self._base or self._find_base()
        url = f"{self._base}/v2/{self._prefix}{repository}/{path}"
        answer = self._send(method, url, {**(headers or {}), **self._authorization}, body, limit=limit)
        if answer.status == 401:
            actions = "pull" if method in ("GET", "HEAD") else "pull,push"
            self._authorize(answer.headers.get("WWW-Authenticate", ""), f"{self._prefix}{repository}", actions)
            answer = self._send(method, url, {**(headers or {}), **self._authorization}, body, limit=limit)
        return answer

    def _find_base(self) -> str:
        """The base URL: https, or http for an insecure registry without TLS."""
        secure = f"https://{self._host}"
        if self._registry.insecure:
            try:
                self._http.request("GET", f"{secure}/v2/", redirect=False, retries=False)
            except urllib3.exceptions.HTTPError:
                return f"http://{self._host}"
        return secure

    def _authorize(self, challenge: str, repository: str, actions: str) -> None:
        basic = self._basic()
        kind, _, rest = challenge.partition(" ")
        if kind.lower() != "bearer":
            self._authorization = basic
            return
        parts = dict(_CHALLENGE.findall(rest))
        realm = parts.get("realm", "")
        allowed = ("https://", "http://") if self._registry.insecure else ("https://",)
        if not realm.startswith(allowed):
            raise RegistryError(f"{self._registry.url} names the token service {realm!r}, which is not https")
        query = {"scope": f"repository:{repository}:{actions}"}
        query |= {name: value for name, value in parts.items() if name == "service"}
        answer = self._send("GET", f"{realm}?{urlencode(query)}", basic, None, limit=_MAX_TOKEN)
        try:
            document = json.loads(self._expect(answer, 200, "requesting a token").data)
            token = document.get("token") or document["access_token"]
        except (ValueError, KeyError, AttributeError) as error:
            raise RegistryError(f"the token service {realm} returned no token") from error
        self._authorization = {"Authorization": f"Bearer {token}"}

    def _basic(self) -> dict[str, str]:
        registry = self._registry
        if not registry.username:
            return {}
        try:
            password = Path(registry.password_file).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            raise RegistryError(f"the password file {registry.password_file} cannot be read") from error
        pair = base64.b64encode(f"{registry.username}:{password}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, *, limit: int = MAX_MANIFEST
    ) -> _Answer:
        # On a redirect to another host urllib3 removes the Authorization header.
        # A busy registry's answer is returned unchanged: the caller, who can be cancelled, obeys its Retry-After.
        some = urllib3.Retry(total=3, redirect=3, connect=0, read=0, status=0, respect_retry_after_header=False)
        follow = some if method == "GET" else False
        try:
            response = self._http.request(
                method, url, headers=dict(headers), body=body, preload_content=False, redirect=method == "GET",
                retries=follow,
            )  # fmt: skip
            try:
                data = response.read(limit + 1)
            finally:
                response.release_conn()
        except urllib3.exceptions.HTTPError as error:
            # an untrusted certificate stays untrusted
            passing = not isinstance(error, urllib3.exceptions.SSLError)
            raise RegistryError(
                f"registry {self._registry.url}: {method} {urlsplit(url).path}: {error}", passing=passing
            ) from error
        if len(data) > limit:
            raise RegistryError(f"registry {self._registry.url}: {urlsplit(url).path} is longer than {limit} bytes")
        return _Answer(response.status, response.headers, data)


@dataclass(frozen=True)
class _Answer:
    """Status, headers and the whole body."""

    status: int
    headers: Mapping[str, str]
    data: bytes
