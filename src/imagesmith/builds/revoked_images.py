"""Refuses revoked images in a run, where the request could not: their digest was not known, or it was too early.

a parent by its digest    before anything of it is started, adopted or registered
the image of the run      before each delivery: it, or what it was built on, may have been revoked meanwhile
"""

from __future__ import annotations

from imagesmith.builds.failures import StepFailed
from imagesmith.builds.work import Work
from imagesmith.store.revocations import revocation_of, revocation_of_digest


def refuse_revoked_parent(work: Work, digest: str, reference: str = "") -> None:
    """Raise StepFailed for a revoked artifact: a registry, an AMI and a run that waited name it by digest alone.

    `reference`: what named it, if that was not the plan.
    """
    database = work.worker_context.outcomes.database
    found = database.query(lambda tx: revocation_of_digest(tx, digest))
    if found is not None:
        named = reference or work.plan.parent.reference
        raise StepFailed(f"the parent {named} cannot be used: {found.sentence(found.image_arn)}")


def refuse_revoked(work: Work) -> None:
    """Raise StepFailed if the image of the run must not be delivered. Every delivery begins with it."""
    arn = work.plan.image_arn
    found = work.worker_context.outcomes.database.query(lambda tx: revocation_of(tx, arn))
    if found is not None:
        raise StepFailed(f"the image cannot be distributed: {found.sentence(arn)}")
