"""What a policy selects among the images of an account and Region."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy.engine import Connection

from imagesmith.lifecycle.decide import Candidate, Selected, decide
from imagesmith.lifecycle.policy import LifecyclePolicy
from imagesmith.store.lifecycle import image_facts


def selected_now(
    tx: Connection, account: str, region: str, policy: LifecyclePolicy, *, now: datetime
) -> list[Selected]:
    """The selected images, newest first."""
    found = (
        Candidate(
            arn=facts.arn,
            image_type=facts.type,
            slug=facts.slug,
            version=facts.version,
            build=facts.build,
            status=facts.status,
            created=facts.created,
            tags=facts.tags,
        )
        for facts in image_facts(tx, account, region)
    )
    return decide(policy, found, now=now)
