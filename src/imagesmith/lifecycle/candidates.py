"""What a policy selects among the images of an account and Region."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.engine import Connection

from imagesmith.lifecycle.decide import Candidate, Selected, decide
from imagesmith.lifecycle.policy import LifecyclePolicy
from imagesmith.store.lifecycle import stored_images


def selected_now(
    tx: Connection, account: str, region: str, policy: LifecyclePolicy, *, now: datetime
) -> list[Selected]:
    """The selected images, newest first."""
    found = (
        Candidate(
            arn=image.arn,
            image_type=image.type,
            slug=image.slug,
            version=image.version,
            build=image.build,
            status=image.status,
            created=image.created,
            tags=image.tags,
        )
        for image in stored_images(tx, account, region)
    )
    return decide(policy, found, now=now)
