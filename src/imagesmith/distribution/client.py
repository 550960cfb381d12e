"""A thin client of the OCI distribution protocol, for small artifacts; images themselves go through skopeo.

    request --401--> Basic header, or a token from the realm that the answer names --> request again

Only what a referrer needs: a manifest or a blob by digest or tag, read or written whole. Sizes are bounded, and
credentials go to the registry and to the token service that it names, to no other host.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlencode, urljoin, urlsplit

import urllib3

from imagesmith.settings import Registry

MAX_DOCUMENT = 64 * 1024 * 1024
MAX_MANIFEST = 8 * 1024 * 1024
_MAX_TOKEN = 64 * 1024
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_TIMEOUT = urllib3.Timeout(connect=10, read=60)


class RegistryError(RuntimeError):
    """A registry did not do what it was asked for: names the request and the answer, never a credential."""


class RegistryClient:
    """One registry; close it when done."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
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
        """The bytes of a manifest by digest or tag; None when there is none. Raises RegistryError."""
        return self._read(repository, f"manifests/{reference}", limit=MAX_MANIFEST, headers={"Accept": accept})

    def blob(self, repository: str, digest: str) -> bytes | None:
        """The bytes of a blob, checked against its digest; None when there is none. Raises RegistryError."""
        data = self._read(repository, f"blobs/{digest}", limit=MAX_DOCUMENT, headers={})
        if data is not None and f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
            raise RegistryError(f"registry {self._registry.url} gave other bytes for {repository}@{digest}")
        return data

    def referrers(self, repository: str, digest: str) -> bytes | None:
        """The answer of the referrers API; None where the registry has none."""
        answer = self._request("GET", repository, f"referrers/{digest}")
        return answer.data if answer.status == 200 and answer.data[:1] == b"{" else None

    def put_blob(self, repository: str, data: bytes) -> None:
        """Store a blob unless it is there. Raises RegistryError."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if self._request("HEAD", repository, f"blobs/{digest}").status == 200:
            return
        begun = self._expect(self._request("POST", repository, "blobs/uploads/"), 202, "starting an upload")
        place = urljoin(f"{self._base}/", begun.headers.get("Location", ""))
        place += ("&" if urlsplit(place).query else "?") + urlencode({"digest": digest})
        headers = {"Content-Type": "application/octet-stream"}
        if urlsplit(place).netloc == self._host:
            headers |= self._authorization
        self._expect(self._send("PUT", place, headers, data), 201, f"uploading {digest}")

    def put_manifest(self, repository: str, reference: str, data: bytes, media_type: str) -> Mapping[str, str]:
        """Store a manifest under a digest or tag; gives the headers of the answer. Raises RegistryError."""
        answer = self._request("PUT", repository, f"manifests/{reference}", {"Content-Type": media_type}, data)
        return self._expect(answer, 201, f"storing the manifest {reference}").headers

    def _read(self, repository: str, path: str, *, limit: int, headers: Mapping[str, str]) -> bytes | None:
        answer = self._request("GET", repository, path, headers, limit=limit)
        if answer.status == 404:
            return None
        return self._expect(answer, 200, f"reading {repository}/{path}").data

    def _expect(self, answer: _Answer, status: int, doing: str) -> _Answer:
        if answer.status != status:
            words = answer.data[:300].decode(errors="replace").strip()
            raise RegistryError(f"registry {self._registry.url}: {doing}: HTTP {answer.status} {words}")
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
        """https; for an insecure registry that speaks no TLS, http."""
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
            raise RegistryError(
                f"registry {self._registry.url} names the token service {realm!r}, which is not https"
            )
        query = {"scope": f"repository:{repository}:{actions}"} | (
            {"service": parts["service"]} if "service" in parts else {}
        )
        answer = self._send("GET", f"{realm}?{urlencode(query)}", basic, None, limit=_MAX_TOKEN)
        try:
            document = json.loads(self._expect(answer, 200, "asking for a token").data)
            token = document.get("token") or document["access_token"]
        except (ValueError, KeyError, AttributeError) as error:
            raise RegistryError(f"the token service {realm} gave no token") from error
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
        # A redirect to another host loses the Authorization header: urllib3 removes it.
        follow = urllib3.Retry(total=3, redirect=3, connect=0, read=0, status=0) if method == "GET" else False
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
            raise RegistryError(f"registry {self._registry.url}: {method} {urlsplit(url).path}: {error}") from error
        if len(data) > limit:
            raise RegistryError(f"registry {self._registry.url}: {urlsplit(url).path} is longer than {limit} bytes")
        return _Answer(response.status, response.headers, data)


class _Answer:
    """Status, headers and the whole body."""

    def __init__(self, status: int, headers: Mapping[str, str], data: bytes) -> None:
        self.status = status
        self.headers = headers
        self.data = data
