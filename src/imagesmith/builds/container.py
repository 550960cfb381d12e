"""Container images before and after the BUILD workflow: the image that instances start on, and the built image.

    parent -> [instructions before] -> instance of the BUILD workflow -> [instructions after] -> layout, inventory,
                                       (its steps change it)                                     provenance

Every function may run again after a crash: images are found by content, exports are by digest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from imagesmith.artifacts.base_cache import OnLine
from imagesmith.artifacts.bases import Parent, ParentError, without_tag
from imagesmith.artifacts.cache_use import CacheUse
from imagesmith.artifacts.layout import ImageArtifact, LayoutError
from imagesmith.artifacts.plain_images import PlainImage
from imagesmith.artifacts.storage import StorageError
from imagesmith.builds import inspection, reproducible
from imagesmith.builds.failures import StepFailed
from imagesmith.builds.image_annotations import image_annotations
from imagesmith.builds.managed_parent import configured_source
from imagesmith.builds.reproducible import layer_rules
from imagesmith.builds.revoked_images import refuse_revoked_parent
from imagesmith.builds.work import Work
from imagesmith.builds.worker_context import instance_name
from imagesmith.dockerfile_builds.build import DockerfileBuild
from imagesmith.dockerfiles.template import unreadable_lines
from imagesmith.inspection.inventory import Inventory
from imagesmith.managed.bases import managed_base
from imagesmith.settings import NoRegistry
from imagesmith.store.build_outcome import BuildParent
from imagesmith.values.arn import Arn
from imagesmith.values.ecr import EcrError, ecr_address


@dataclass(frozen=True)
class Start:
    """The image that the instance of the BUILD workflow starts on."""

    image_id: str
    parent: Parent
    plain: PlainImage
    """The image that replaces the parent in the Dockerfile, and the parent's triggers, which it carries out."""
    cached: Sequence[Mapping[str, Any]]
    """What it took from earlier builds."""

    def built_parent(self) -> BuildParent:
        """The parent as finished_image() needs it, also after a crash."""
        return BuildParent(digest=self.parent.digest, image=self.plain.id, triggers=tuple(self.plain.triggers))


def starting_image(work: Work) -> Start:
    """Make the image that the instance of the BUILD workflow starts on. Raises StepFailed, Cancelled."""
    reproducible.begin(work)
    with work.timed("parent"):
        parent = find_parent(work)
        refuse_revoked_parent(work, parent.digest)
        try:
            plain = work.worker_context.storage.plain_image(parent.image_id)
        except StorageError as error:
            raise StepFailed(f"the parent image {parent.reference} cannot be used: {error}") from error
    if plain.triggers:
        work.log.line("parent", f"ONBUILD triggers of the parent, which run first: {len(plain.triggers)}")
    cached: list[Mapping[str, Any]] = []
    with _dockerfile(work, "before", plain.id, plain.triggers, cached) as build:
        return Start(build.before_components(), parent, plain, cached)


@dataclass(frozen=True)
class FinishedImage:
    """The built image in the storage, and what its last part took from earlier builds."""

    image_id: str
    cached: Sequence[Mapping[str, Any]]


def finished_image(work: Work, image_id: str, *, parent: BuildParent) -> FinishedImage:
    """Apply the rest of the Dockerfile to the committed image; `parent`: what it was started from."""
    cached: list[Mapping[str, Any]] = []
    with _dockerfile(work, "after", parent.image, parent.triggers, cached) as build:
        return FinishedImage(build.after_components(image_id), cached)


def keep_image(
    work: Work, image_id: str, *, parent: BuildParent, started: datetime, cached: Sequence[Mapping[str, Any]]
) -> str:
    """Export an image into the layout with its inventory and provenance; returns its digest.

    `cached`: what was taken from earlier builds."""
    worker_context, plan = work.worker_context, work.plan
    storage = worker_context.storage
    parent_config = storage.image_config(parent.image) if storage.has_image(parent.image) else None
    annotations = image_annotations(plan, parent.digest, storage.image_config(image_id), parent_config)
    artifact = _export(work, image_id, annotations=annotations)
    inventory = _take_inventory(work, artifact, image_id)
    with work.timed("provenance"):
        inspection.keep_provenance(
            worker_context, plan, work.log, artifact.digest, parent_digest=parent.digest, started=started,
            cached=cached, inventory=inventory,
        )  # fmt: skip
    return _kept(work, artifact, parent.digest)


def adopt_parent(work: Work) -> str:
    """Keep the parent itself as the output image; a parent in the layout only gets another name.

    Nothing was built, so nothing is signed: the parent's own provenance stays beside it.
    """
    layout, plan = work.worker_context.layout, work.plan
    with work.timed("parent"):
        # our own image need not be in the storage if nothing is read from it
        known = plan.parent.digest if plan.parent.kind == "image" and not plan.collect_metadata else ""
        parent = Parent("", plan.parent.reference, known) if known else find_parent(work)
    refuse_revoked_parent(work, parent.digest)
    try:
        layout.make_whole(parent.digest, work.worker_context.storage, cancellation=work.cancellation)
        artifact = layout.read(parent.digest)
        layout.tag(parent.digest, plan.layout_reference)
    except LayoutError as error:
        if not parent.image_id:
            raise StepFailed(f"the parent image {parent.reference} cannot be used: {error}") from error
        artifact = _export(work, parent.image_id)
    _take_inventory(work, artifact, parent.image_id)
    return _kept(work, artifact, parent.digest)


def _export(work: Work, image_id: str, *, annotations: Mapping[str, str] | None = None) -> ImageArtifact:
    with work.timed("export"):
        return work.worker_context.layout.export_image(
            work.worker_context.storage, image_id, work.plan.layout_reference,
            annotations=annotations, cancellation=work.cancellation,
        )  # fmt: skip


def _take_inventory(work: Work, artifact: ImageArtifact, image_id: str) -> Inventory | None:
    if not work.plan.collect_metadata:
        return None
    with work.timed("inventory"):
        return inspection.keep_inventory(work, artifact, image_id)


def _kept(work: Work, artifact: ImageArtifact, parent_digest: str) -> str:
    if work.worker_context.exchange is not None:
        work.worker_context.check_fence()
        with work.timed("publish"):
            work.worker_context.exchange.publish_image(
                work.worker_context.layout,
                artifact.digest,
                work.plan.layout_reference,
                cancellation=work.cancellation,
            )
    work.worker_context.outcomes.keep_output(
        work.plan.image_arn, digest=artifact.digest, size=artifact.size, parent_digest=parent_digest
    )
    work.log.line("build", f"image {artifact.digest} is kept as {work.plan.layout_reference}")
    return artifact.digest


def find_parent(work: Work) -> Parent:
    """Bring the parent of the plan into the storage. Raises StepFailed, Cancelled."""
    worker_context, log, cancellation = work.worker_context, work.log, work.cancellation
    parent = work.plan.parent
    log.line("parent", parent.reference)

    def on_line(line: str) -> None:
        log.line("parent", line)

    wanted = work.plan.reproducible
    try:
        if wanted is not None and wanted.parent:
            return _parent_again(work, wanted.parent)
        if parent.kind == "managed":
            return _managed_image(work, on_line)
        if parent.kind == "image":
            return worker_context.bases.image(parent.digest, parent.reference, cancellation=cancellation)
        if parent.kind == "registry":
            return _registry_image(work, parent.reference)
        folders = map(Path, worker_context.settings.local_image_folders)
        return worker_context.bases.local(parent.reference, folders, cancellation=cancellation)
    except ParentError as error:
        raise StepFailed(str(error)) from error


def _parent_again(work: Work, digest: str) -> Parent:
    """The parent of an image that is built again: by its digest, from here or its registry. Raises ParentError."""
    parent = work.plan.parent
    reference = parent.managed_source.location if parent.kind == "managed" else parent.reference
    if digest in work.worker_context.layout.references().values():
        return work.worker_context.bases.image(digest, reference, cancellation=work.cancellation)
    return _registry_image(work, f"{without_tag(reference)}@{digest}")


def _managed_image(work: Work, on_line: OnLine) -> Parent:
    """What stands in for the managed image of the plan. Raises StepFailed, ParentError, Cancelled."""
    source = configured_source(work)
    if source.kind == "registry":
        return _registry_image(work, source.location)
    base = managed_base(source.location)
    if base is None:
        raise StepFailed(f"there is no base {source.location} for containers in this version")
    return work.worker_context.bases.managed(base, on_line=on_line, cancellation=work.cancellation)


def _registry_image(work: Work, reference: str) -> Parent:
    """An image by its reference, from its location in the settings. Raises ParentError, Cancelled."""
    worker_context, plan = work.worker_context, work.plan
    try:
        source, registry = worker_context.settings.locate(reference)
    except NoRegistry as error:
        digest = _kept_here(work, reference)
        if not digest:
            raise ParentError(f"the image {reference} cannot be obtained: {error}") from error
        work.log.line("parent", f"{reference} is {digest} of the images kept here")
        return worker_context.bases.image(
            digest, f"{plan.account}/{plan.region}@{digest}", cancellation=work.cancellation
        )
    if source != reference:
        work.log.line("parent", f"{reference} is {source} here")
    return worker_context.bases.registry(
        source, registry=registry, cancellation=work.cancellation, retry_policy=work.retry_policy,
        on_line=lambda line: work.log.line("parent", line),
    )  # fmt: skip


def _kept_here(work: Work, reference: str) -> str:
    """The digest of our own image at an address of ECR for which no registry is configured; else empty."""
    try:
        address = ecr_address(reference)
    except EcrError:
        return ""
    if address is None or (address.account, address.region) != (work.plan.account, work.plan.region):
        return ""
    prefix = f"{address.account}/{address.region}/"
    name, _, digest = address.image.partition("@")
    known = work.worker_context.layout.references()
    if digest:
        named = {kept for ref, kept in known.items() if ref.startswith(f"{prefix}{name.partition(':')[0]}:")}
        return digest if digest in named else ""
    return known.get(prefix + (name if ":" in name else f"{name}:latest"), "")


@contextmanager
def _dockerfile(
    work: Work, role: str, parent: str, triggers: Sequence[str], cached: list[Mapping[str, Any]]
) -> Iterator[DockerfileBuild]:
    """The build of the plan's template, whose output is in the log; fills `cached`. Raises StepFailed."""
    if problems := unreadable_lines(work.plan.dockerfile):
        raise StepFailed(f"the Dockerfile template cannot be built: {problems[0].render('template')}")
    worker_context = work.worker_context
    receive, flush = work.log.sink("dockerfile")
    try:
        with work.timed("dockerfile"):
            yield DockerfileBuild(
                storage=worker_context.storage,
                text=work.plan.dockerfile,
                name=instance_name(work.plan, role),
                find=lambda reference: _registry_image(work, reference).image_id,
                parent=parent,
                triggers=triggers,
                limits=worker_context.limits,
                network=work.plan.network,
                at_once=worker_context.settings.builds.stages_at_once,
                timeout=worker_context.settings.builds.step_timeout_seconds,
                cache=cache_use(work, cached),
                cancellation=work.cancellation,
                on_output=receive,
                rules=layer_rules(work),
            )
    except ParentError as error:
        raise StepFailed(str(error)) from error
    finally:
        flush()


def cache_use(work: Work, cached: list[Mapping[str, Any]]) -> CacheUse:
    """How a build uses the results of earlier builds of its account and Region; those that it uses are added to
    `cached`, as in its record."""
    plan, settings = work.plan, work.worker_context.settings.builds
    age = plan.cache.max_age_seconds
    return CacheUse(
        cache=work.worker_context.layer_cache, owner=f"{plan.account}/{plan.region}", lineage=plan.name,
        build=Arn.parse(plan.image_arn).path, reads=plan.cache.reads,
        on_hit=lambda hit: cached.append(hit.to_json()),
        max_age=settings.cache_max_age_hours * 3600.0 if age is None else age,
        epoch=plan.reproducible.epoch if plan.reproducible else None,
    )  # fmt: skip
