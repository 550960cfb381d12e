"""Refuses parents that are revoked, where only their digest says which image they are."""

from __future__ import annotations

from imagesmith.builds.failures import StepFailed
from imagesmith.builds.steps.context import StepRun
from imagesmith.store.revocations import revocation_of_digest


def refuse_revoked_parent(run: StepRun, digest: str) -> None:
    """Raise StepFailed for a revoked artifact: a registry, an AMI and a run that waited name it by digest alone."""
    database = run.worker_context.outcomes.database
    found = database.query(lambda tx: revocation_of_digest(tx, digest))
    if found is not None:
        raise StepFailed(
            f"the parent {run.plan.parent.reference} cannot be used: {found.sentence(found.image_arn)}"
        )
