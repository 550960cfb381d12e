"""Images are removed from a real registry, and what other tags keep stays."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagesmith.artifacts.retry_policy import RetryPolicy
from imagesmith.distribution.client import RegistryClient
from imagesmith.lifecycle.registry_removal import KeptByTag, NotRemoved, remove_uris
from imagesmith.settings import Registry
from testing.pipeline_support import tiny_layout
from testing.registry_support import RunningRegistry

pytestmark = pytest.mark.tool


@pytest.fixture
def frozen_registry(tmp_path: Path) -> Iterator[RunningRegistry]:
    """A registry that removes nothing."""
    registry = RunningRegistry(tmp_path / "registry", deletes=False)
    registry.start()
    yield registry
    registry.kill()


def push(registry: RunningRegistry, layout: str, *tags: str) -> list[str]:
    uris = [f"{registry.host}/removal/web:{tag}" for tag in tags]
    for uri in uris:
        argv = ["skopeo", "copy", "-q", "--dest-tls-verify=false", layout, f"docker://{uri}"]
        subprocess.run(argv, check=True)
    return uris


def tags(registry: Registry) -> list[str]:
    with RegistryClient(registry) as client:
        found = (tag for tag in client.tags("removal/web") if client.digest_of_tag("removal/web", tag))
        return sorted(found)


def test_a_manifest_goes_with_the_last_of_its_tags(open_registry: RunningRegistry, tmp_path: Path) -> None:
    """Another tag of the same image keeps it, and is named; a repetition succeeds."""
    registry = Registry(url=open_registry.host, insecure=True)
    own = push(open_registry, tiny_layout(tmp_path / "a", "a:1"), "1.0.0-1", "latest")
    with pytest.raises(KeptByTag, match="removal/web:latest points to the same image"):
        remove_uris(registry, own[:1], RetryPolicy())
    assert tags(registry) == ["1.0.0-1", "latest"]
    for _ in range(2):
        remove_uris(registry, own, RetryPolicy())
        assert tags(registry) == []


def test_a_registry_that_removes_nothing_is_named(frozen_registry: RunningRegistry, tmp_path: Path) -> None:
    """The reason has the answer of the registry."""
    registry = Registry(url=frozen_registry.host, insecure=True)
    own = push(frozen_registry, tiny_layout(tmp_path / "a", "a:1"), "1.0.0-1")
    with pytest.raises(NotRemoved, match=r"removing removal/web@sha256:.*HTTP 405"):
        remove_uris(registry, own, RetryPolicy())
    assert tags(registry) == ["1.0.0-1"]


@pytest.mark.parametrize("uri", ["elsewhere.example/web:1", "{host}/web", "{host}/web@sha256:00"])
def test_only_tags_of_the_registry_are_removed(open_registry: RunningRegistry, uri: str) -> None:
    """A reference to another host, or without a tag, is refused before any request."""
    with pytest.raises(NotRemoved, match="is not a tag of the registry"):
        remove_uris(
            Registry(url=open_registry.host, insecure=True), [uri.format(host=open_registry.host)], RetryPolicy()
        )
