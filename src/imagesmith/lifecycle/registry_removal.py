"""Removes the tags of an image from a registry, and its manifest if no other tag points to it.

tag of the image --> digest --> other tags with this digest?   yes: they keep the manifest, only the tag goes
                                                               no:  the manifest goes, and its tags with it
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from imagesmith.artifacts.retry_policy import RetryPolicy
from imagesmith.distribution.client import RegistryClient, RegistryError
from imagesmith.distribution.cosign import attestation_tag, is_attached_tag, signature_tag
from imagesmith.settings import Registry


class NotRemoved(RuntimeError):
    """A container image stays in its registry; the text says why."""


class KeptByTag(NotRemoved):
    """Another tag points to the image, and the registry cannot remove a tag alone."""


def remove_uris(registry: Registry, uris: Sequence[str], retry_policy: RetryPolicy) -> None:
    """Remove references of one registry; those that are gone are removed. Raises NotRemoved."""
    tags_of: dict[str, list[str]] = {}
    for uri in uris:
        path = uri.removeprefix(f"{registry.url.rstrip('/')}/")
        repository, _, tag = path.rpartition(":")
        if path == uri or not repository or "/" in tag or "@" in path:
            raise NotRemoved(f"{uri} is not a tag of the registry {registry.url}, which the settings name here.")
        tags_of.setdefault(repository, []).append(tag)
    try:
        with RegistryClient(registry, retry_policy) as client:
            for repository, tags in tags_of.items():
                _remove_tags(client, repository, tags)
    except RegistryError as error:
        raise NotRemoved(f"{error}.") from error


def _remove_tags(client: RegistryClient, repository: str, own: Collection[str]) -> None:
    digests = {digest for tag in own if (digest := client.digest_of_tag(repository, tag))}
    if not digests:
        return
    others = {
        tag: digest
        for tag in client.tags(repository)
        if tag not in own
        and not is_attached_tag(tag)
        and (digest := client.digest_of_tag(repository, tag)) in digests
    }
    for tag in own:
        digest = client.digest_of_tag(repository, tag)
        keeping = sorted(other for other, kept in others.items() if kept == digest)
        if keeping:
            _remove_tag(client, repository, tag, keeping[0])
    for digest in sorted(digests - set(others.values())):
        client.delete_manifest(repository, digest)
        for tag in (signature_tag(digest), attestation_tag(digest)):
            if attached := client.digest_of_tag(repository, tag):
                client.delete_manifest(repository, attached)


def _remove_tag(client: RegistryClient, repository: str, tag: str, keeping: str) -> None:
    """Remove a tag alone: its manifest belongs to another tag as well. Raises KeptByTag."""
    try:
        client.delete_manifest(repository, tag)
    except RegistryError as error:
        if error.passing:
            raise
        raise KeptByTag(
            f"The tag {repository}:{keeping} points to the same image, and the registry removes no tag alone."
        ) from error
