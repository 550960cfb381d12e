"""What keeps an image and its outputs from being removed: runs that work on it, and resources that name it."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy.engine import Connection

from imagesmith.policies.document import grants_access
from imagesmith.recipes.plan import BuildPlan
from imagesmith.store import amis, queries, stored_builds
from imagesmith.store.policies import get_policy
from imagesmith.store.records import Record
from imagesmith.values.states import UNFINISHED_IMAGE


def user_of_image(tx: Connection, image: Record) -> str:
    """The sentence that says who uses an image or one of its outputs; empty without a user."""
    if queries.is_needed(tx, image.arn):
        return "A recipe names this build of the image as its parent."
    policy = get_policy(tx, image.arn)
    if policy is not None and grants_access(policy.text):
        return "A policy shares the image with other accounts."
    names = {image.arn, *output_names(tx, image)}
    for plan in _running(tx, image.arn):
        if plan.parent.reference in names:
            return f"The running build {plan.image_arn} is based on it."
    return ""


def user_of_disk(tx: Connection, digest: str, *, image_arn: str) -> str:
    """The sentence that says who uses a disk that no AMI of the image has any more; empty without a user."""
    others = amis.amis_of_digest(tx, digest)
    if others:
        return f"The AMI {others[0].ami_id} has the same disk."
    for plan in _running(tx, image_arn):
        build = stored_builds.get_build(tx, plan.image_arn)
        if digest in (plan.parent.digest, build.outcome.digest if build else "", build_parent(tx, plan.image_arn)):
            return f"The running build {plan.image_arn} uses the disk."
    return ""


def build_parent(tx: Connection, image_arn: str) -> str:
    """The digest that a build has started on."""
    build = stored_builds.get_build(tx, image_arn)
    return build.outcome.parent.digest if build else ""


def output_names(tx: Connection, image: Record) -> Collection[str]:
    """AMI ids and references under which builds can name the outputs of an image."""
    containers = image.document.get("outputResources", {}).get("containers", ())
    uris = [uri for item in containers for uri in item.get("imageUris", ())]
    return {*(ami.ami_id for ami in amis.list_amis(tx, image_arn=image.arn)), *uris}


def _running(tx: Connection, image_arn: str) -> list[BuildPlan]:
    """The plans of the other builds that have not ended."""
    found = []
    for record in queries.by_status(tx, "image", UNFINISHED_IMAGE):
        build = stored_builds.get_build(tx, record.arn) if record.arn != image_arn else None
        if build is not None:
            found.append(BuildPlan.from_json(build.plan))
    return found
