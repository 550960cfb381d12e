"""A repository of a registry as a destination: `[registries]` of the settings names one registry per Region.

Each image gets the tag BuildPlan.default_tag (recipes/plan.py), and the tags of its distribution besides.

Pushes are by digest, so an interrupted push can be repeated. The credentials are in the scratch folder of the
storage, which the next start empties after a kill -9.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from imagesmith.artifacts.layout import LayoutError
from imagesmith.distribution.attest import attest
from imagesmith.distribution.client import RegistryError
from imagesmith.distribution.cosign import name_in
from imagesmith.distribution.destination import Delivery, DistributionContext, signing_key
from imagesmith.distribution.push import Pushed, push_image
from imagesmith.distribution.push_request import PushFailed
from imagesmith.distribution.role_access import refused_registry
from imagesmith.inspection.signing import SigningKey
from imagesmith.settings import Registry


@dataclass(frozen=True)
class Repository:
    """A distribution's options for a registry."""

    name: str
    tags: tuple[str, ...] = ()
    """Further tags next to the default one."""

    @classmethod
    def of(cls, wanted: Mapping[str, Any]) -> Repository:
        return cls(str(wanted["repository"]), tuple(wanted["tags"]))


class RegistryRepository:
    """Accepts every container image that does not stay in the embedded layout."""

    member = ""

    def accepts(self, _: Delivery, /) -> bool:
        return True

    def refusal(self, delivery: Delivery, /) -> str:
        registry = delivery.settings.registry_for(delivery.account, delivery.region)
        return "" if registry is None else refused_registry(delivery.plan, delivery.region, registry)

    def deliver(self, context: DistributionContext, delivery: Delivery) -> tuple[str, ...]:
        region, repository = delivery.region, Repository.of(delivery.wanted)
        registry = delivery.settings.registry_for(delivery.account, region)
        if registry is None:
            raise PushFailed(
                f'no registry is configured for the Region {region}; add [registries."{region}"] to the settings',
                permanent=True,
            )
        key = signing_key(delivery.settings)
        tags = tuple(dict.fromkeys((context.plan.default_tag, *repository.tags)))
        pushed = push_built_image(
            context, registry, stage="distribute", digest=delivery.digest, repository=repository.name, tags=tags
        )
        context.log.line("distribute", f"{region}: {', '.join(pushed.uris)} ({pushed.digest})")
        _push_documents(context, registry, repository.name, delivery.digest, key)
        return pushed.uris


def push_built_image(
    context: DistributionContext,
    registry: Registry,
    *,
    stage: str,
    digest: str,
    repository: str,
    tags: Sequence[str],
) -> Pushed:
    """Push the image of the layout under these tags; `stage` names the lines of the log.

    Raises PushFailed, Cancelled, and FenceLost when another host has taken the build.
    """
    reference = context.plan.layout_reference
    # the image may have been built on another host
    context.layout.tag(digest, reference)
    try:
        context.layout.make_whole(digest, context.storage, cancellation=context.cancellation)
    except LayoutError as error:
        raise PushFailed(str(error), permanent=True) from error
    context.check_fence()
    with context.storage.scratch() as scratch:
        return push_image(
            context.layout.path,
            reference,
            digest=digest,
            registry=registry,
            repository=repository,
            tags=tags,
            retry_policy=context.retry_policy,
            cancellation=context.cancellation,
            on_line=lambda line: context.log.line(stage, line),
            environment={"TMPDIR": str(scratch)},
            scratch=scratch,
        )


def _push_documents(
    context: DistributionContext, registry: Registry, repository: str, digest: str, key: SigningKey
) -> None:
    """Attach documents and signatures of an image to its push. A registry that refuses them does not undo the push:
    the log reports it, and the documents stay beside the image in the layout."""
    try:
        kinds = attest(context.layout, registry, repository, digest, key, context.retry_policy, context.clock())
    except RegistryError as error:
        context.log.line(
            "distribute",
            f"warning: the documents about the image could not be attached to it: {error}; "
            f"repeat with: imagesmith image attest {name_in(registry, repository)}@{digest}",
        )
        return
    context.log.line(
        "distribute",
        f"signed as {name_in(registry, repository)}, attached to {repository}@{digest}: {', '.join(kinds)}",
    )
