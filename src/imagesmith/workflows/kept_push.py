"""The push of the image that a run has built: to a target of its distribution, or to where it is scanned.

The credentials lie in the scratch folder of the storage, which the next start empties after a kill -9.
"""

from __future__ import annotations

from collections.abc import Sequence

from imagesmith.distribution.registry import Pushed, push_image
from imagesmith.settings import Registry
from imagesmith.workflows.work import Work
from imagesmith.workflows.workshop import layout_reference


def push_kept(
    work: Work, registry: Registry, *, stage: str, digest: str, repository: str, tags: Sequence[str]
) -> Pushed:
    """Push the image of the layout under these tags; `stage` names the lines of the log.

    Raises PushFailed, Cancelled, also when another host has taken the build.
    """
    shop = work.shop
    reference = layout_reference(work.plan)
    # the image may have been built on another host
    shop.layout.tag(digest, reference)
    shop.check_fence(work.cancellation)
    with shop.storage.scratch() as scratch:
        return push_image(
            shop.layout.path,
            reference,
            digest=digest,
            registry=registry,
            repository=repository,
            tags=tags,
            attempts=shop.settings.builds.push_attempts,
            sleep=work.pause,
            cancellation=work.cancellation,
            on_line=lambda line: work.log.line(stage, line),
            environment={"TMPDIR": str(scratch)},
            scratch=scratch,
        )
