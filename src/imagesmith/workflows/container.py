"""A container image before and after its workflow: what instances start on, and what is kept of the built one.

    parent -> [Dockerfile before] -> instance of the BUILD workflow -> [Dockerfile after] -> layout, inventory,
                                     (its steps change it)                                   provenance

Every function may run again after a crash: images are found by content, exports are by digest.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from imagesmith.artifacts.bases import Parent, ParentError
from imagesmith.artifacts.layout import ImageArtifact, LayoutError
from imagesmith.instances.dockerfile_build import build_dockerfile
from imagesmith.managed.bases import managed_base
from imagesmith.recipes.dockerfile import DockerfileParts, fill_parent, split_template
from imagesmith.values.arn import Arn
from imagesmith.workflows import inspection
from imagesmith.workflows.failures import StepFailed
from imagesmith.workflows.work import Work
from imagesmith.workflows.workshop import instance_name, layout_reference


def starting_image(work: Work) -> tuple[str, Parent]:
    """The image that the instance of the BUILD workflow starts on, and the parent. Raises StepFailed, Cancelled."""
    with work.timed("parent"):
        parent = find_parent(work)
    before = split_template(work.plan.dockerfile).before
    if not before:
        return parent.image_id, parent
    with work.timed("dockerfile"):
        return _run_dockerfile(work, "before", fill_parent(before, parent.image_id)), parent


def finished_image(work: Work, image_id: str, *, parent_image: str) -> str:
    """What the rest of the Dockerfile makes of the image that was committed."""
    after = split_template(work.plan.dockerfile).after
    if not after:
        return image_id
    with work.timed("dockerfile"):
        text = fill_parent(after.replace(DockerfileParts.BASE, image_id), parent_image)
        return _run_dockerfile(work, "after", text)


def keep_image(work: Work, image_id: str, *, parent_digest: str, started: datetime) -> str:
    """Export an image into the layout with all that is known about it; gives its digest."""
    shop, plan = work.shop, work.plan
    artifact = _export(work, image_id)
    _take_inventory(work, artifact, image_id)
    with work.timed("provenance"):
        inspection.keep_provenance(
            shop, plan, work.log, artifact.digest, parent_digest=parent_digest, started=started
        )
    return _kept(work, artifact, parent_digest)


def adopt_parent(work: Work) -> str:
    """Keep the parent itself as the output image; one that is in the layout already only gets another name.

    Nothing was built, so nothing is signed: what is known of the parent's making stays beside it.
    """
    layout, plan = work.shop.layout, work.plan
    with work.timed("parent"):
        # an image of ours need not be in the storage when nothing is to be read from it
        known = plan.parent.digest if plan.parent.kind == "image" and not plan.collect_metadata else ""
        parent = Parent("", plan.parent.reference, known) if known else find_parent(work)
    try:
        artifact = layout.read(parent.digest)
        layout.tag(parent.digest, layout_reference(plan))
    except LayoutError:
        artifact = _export(work, parent.image_id)
    _take_inventory(work, artifact, parent.image_id)
    return _kept(work, artifact, parent.digest)


def _export(work: Work, image_id: str) -> ImageArtifact:
    with work.timed("export"):
        return work.shop.layout.export_image(
            work.shop.storage, image_id, layout_reference(work.plan), cancellation=work.cancellation
        )


def _take_inventory(work: Work, artifact: ImageArtifact, image_id: str) -> None:
    if work.plan.collect_metadata:
        with work.timed("inventory"):
            inspection.keep_inventory(work.shop, work.plan, work.log, artifact, image_id)


def _kept(work: Work, artifact: ImageArtifact, parent_digest: str) -> str:
    if work.shop.exchange is not None:
        work.shop.check_fence(work.cancellation)
        with work.timed("publish"):
            work.shop.exchange.publish_image(
                work.shop.layout, artifact.digest, layout_reference(work.plan), cancellation=work.cancellation
            )
    work.shop.records.note(
        work.plan.image_arn, digest=artifact.digest, size=artifact.size, parent_digest=parent_digest
    )
    work.log.line("build", f"image {artifact.digest} is kept as {layout_reference(work.plan)}")
    return artifact.digest


def find_parent(work: Work) -> Parent:
    """The parent of the plan, in the storage. Raises StepFailed, Cancelled."""
    shop, log, cancellation = work.shop, work.log, work.cancellation
    parent = work.plan.parent
    log.line("parent", parent.reference)

    def on_line(line: str) -> None:
        log.line("parent", line)

    try:
        if parent.kind == "managed":
            slug = Arn.parse(parent.reference).slug
            base = managed_base(slug)
            if base is None:
                raise StepFailed(f"the managed image {slug} is not part of this version")
            return shop.bases.managed(base, on_line=on_line, cancellation=cancellation)
        if parent.kind == "image":
            return shop.bases.image(parent.digest, parent.reference, cancellation=cancellation)
        if parent.kind == "registry":
            registry = shop.settings.registry_at(parent.reference)
            return shop.bases.registry(parent.reference, registry=registry, cancellation=cancellation)
        folders = map(Path, shop.settings.local_image_folders)
        return shop.bases.local(parent.reference, folders, cancellation=cancellation)
    except ParentError as error:
        raise StepFailed(str(error)) from error


def _run_dockerfile(work: Work, role: str, text: str) -> str:
    shop, cancellation = work.shop, work.cancellation

    def pull(reference: str) -> Parent:
        """A further image that the Dockerfile names, with the credentials of the settings."""
        registry = shop.settings.registry_at(reference)
        return shop.bases.registry(reference, registry=registry, cancellation=cancellation)

    receive, flush = work.log.sink("dockerfile")
    try:
        return build_dockerfile(
            shop.storage,
            text,
            name=instance_name(work.plan, role),
            limits=shop.limits,
            timeout=shop.settings.builds.step_timeout_seconds,
            cancellation=cancellation,
            on_output=receive,
            pull=pull,
        )
    except ParentError as error:
        raise StepFailed(str(error)) from error
    finally:
        flush()
