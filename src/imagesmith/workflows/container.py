"""The work of each stage for a container image.

build       parent -> [Dockerfile before] -> components on an instance -> [Dockerfile after] -> layout, inventory,
            provenance
test        test phases on a fresh instance of what the layout holds; then the scan
distribute  push to every target; without a registry for the build region the image stays in the layout

Every function may run again after a crash: instances are replaced by name, exports and pushes are by digest.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from imagesmith.artifacts.bases import Parent, ParentError
from imagesmith.artifacts.layout import ImageArtifact
from imagesmith.distribution.registry import PushFailed, push_image
from imagesmith.instances.container import ContainerInstance
from imagesmith.instances.dockerfile_build import build_dockerfile
from imagesmith.managed.bases import managed_base
from imagesmith.processes import Cancellation, ProcessFailed
from imagesmith.recipes.dockerfile import DockerfileParts, fill_parent, split_template
from imagesmith.recipes.plan import BuildPlan, PushTarget
from imagesmith.settings import Registry
from imagesmith.values.arn import Arn
from imagesmith.workflows import inspection_stage
from imagesmith.workflows.component_stage import BUILD, TEST, run_components
from imagesmith.workflows.deadline import DeadlinePassed, limited
from imagesmith.workflows.failures import StageFailed, workflow_execution_id
from imagesmith.workflows.logs import BuildLog
from imagesmith.workflows.role_access import refused_log_group, refused_targets, s3_of
from imagesmith.workflows.workshop import Workshop, instance_name, layout_reference

Result = dict[str, Any]


def build(
    shop: Workshop, plan: BuildPlan, log: BuildLog, _before: Mapping[str, Any], cancellation: Cancellation
) -> Result:
    """Make the image and keep it in the layout. Raises StageFailed, Cancelled."""
    started = shop.clock()
    parts = split_template(plan.dockerfile)
    with _timed(shop, plan, "parent"):
        parent = _find_parent(shop, plan, log, cancellation)
    image_id = parent.image_id
    if parts.before:
        with _timed(shop, plan, "dockerfile"):
            image_id = _run_dockerfile(shop, plan, log, "before", fill_parent(parts.before, image_id), cancellation)
    if parts.runs_components:
        image_id = _components(shop, plan, log, image_id, cancellation)
    elif plan.components:
        log.line("build", "the Dockerfile has no components variable: build and validate phases do not run")
    if parts.after:
        text = parts.after.replace(DockerfileParts.BASE, image_id)
        with _timed(shop, plan, "dockerfile"):
            image_id = _run_dockerfile(shop, plan, log, "after", fill_parent(text, parent.image_id), cancellation)
    with _timed(shop, plan, "export"):
        artifact = _export(shop, plan, image_id, cancellation)
    if plan.collect_metadata:
        with _timed(shop, plan, "inventory"):
            inspection_stage.keep_inventory(shop, plan, log, artifact, image_id)
    with _timed(shop, plan, "provenance"):
        inspection_stage.keep_provenance(
            shop, plan, log, artifact.digest, parent_digest=parent.digest, started=started
        )
    shop.records.note(plan.image_arn, digest=artifact.digest, size=artifact.size, parent_digest=parent.digest)
    log.line("build", f"image {artifact.digest} is kept as {layout_reference(plan)}")
    return {"digest": artifact.digest}


def test(
    shop: Workshop, plan: BuildPlan, log: BuildLog, before: Mapping[str, Any], cancellation: Cancellation
) -> Result:
    """Run the test phases on a fresh instance, within the time limit. Raises StageFailed, Cancelled."""
    image_id = shop.layout.ensure_in_storage(shop.storage, before["digest"], cancellation=cancellation)
    try:
        with (
            limited(cancellation, plan.tests_timeout_minutes * 60) as inner,
            _instance(shop, plan, log, "test", image_id, inner) as instance,
        ):
            run_components(plan, TEST, instance, log=log, s3=s3_of(plan, shop.s3), cancellation=inner)
    except DeadlinePassed as late:
        raise StageFailed(
            f"Workflow Execution ID: '{workflow_execution_id(plan, 'test')}' failed with reason: "
            f"the tests did not end within timeoutMinutes ({plan.tests_timeout_minutes:g}): {late}"
        ) from late
    inspection_stage.scan(shop, plan, log, before["digest"], cancellation)
    return {}


def distribute(
    shop: Workshop, plan: BuildPlan, log: BuildLog, before: Mapping[str, Any], cancellation: Cancellation
) -> Result:
    """Push to every target; failures of single regions are collected. Raises StageFailed, Cancelled."""
    digest = str(before["digest"])
    _check_access(shop, plan, log)
    kept = f"oci:{shop.layout.path}:{layout_reference(plan)}"
    outputs: list[dict[str, Any]] = []
    failures: list[dict[str, Any]] = []
    for target in plan.targets:
        registry = shop.settings.registry_for(plan.account, target.region)
        if registry is None and target.region == plan.region:
            log.line("distribute", f"no registry is configured for {target.region}: the image stays at {kept}")
            continue
        try:
            uris = _push(shop, plan, log, target, registry, digest, cancellation)
            outputs.append({"region": target.region, "imageUris": list(uris)})
        except PushFailed as error:
            log.line("distribute", f"{target.region}: {error}")
            failures.append(_region_failure(plan, target, str(error)))
    if failures:
        message = f"{failures[0]['errorMessage']} The image itself was built and is kept at {kept}"
        raise StageFailed(
            f"Workflow Execution ID: '{workflow_execution_id(plan, 'distribute')}' failed with reason: {message}",
            {"distributionFailure": {"errorMessage": message[:1024], "regionFailures": failures}},
            outputs or [{"region": plan.region, "imageUris": [kept]}],
        )
    return {"outputs": outputs or [{"region": plan.region, "imageUris": [kept]}]}


def _check_access(shop: Workshop, plan: BuildPlan, log: BuildLog) -> None:
    """Every target at once, before the first push: a run that may not finish pushes nothing. Raises StageFailed."""
    refused = refused_targets(plan, shop.settings)
    reasons = [reason for _, reason in refused] + [reason for reason in [refused_log_group(plan)] if reason]
    if not reasons:
        return
    for reason in reasons:
        log.line("distribute", reason)
    kept = f"oci:{shop.layout.path}:{layout_reference(plan)}"
    message = f"{'; '.join(reasons)}. Nothing was pushed. The image itself was built and is kept at {kept}"
    failures = [_region_failure(plan, target, reason) for target, reason in refused]
    context = {"distributionFailure": {"errorMessage": message[:1024], "regionFailures": failures}}
    raise StageFailed(
        f"Workflow Execution ID: '{workflow_execution_id(plan, 'distribute')}' failed with reason: {message}",
        context if failures else {},
        [{"region": plan.region, "imageUris": [kept]}],
    )


def _find_parent(shop: Workshop, plan: BuildPlan, log: BuildLog, cancellation: Cancellation) -> Parent:
    parent = plan.parent
    log.line("parent", parent.reference)

    def on_line(line: str) -> None:
        log.line("parent", line)

    try:
        if parent.kind == "managed":
            slug = Arn.parse(parent.reference).slug
            base = managed_base(slug)
            if base is None:
                raise StageFailed(f"the managed image {slug} is not part of this version")
            return shop.bases.managed(base, on_line=on_line, cancellation=cancellation)
        if parent.kind == "image":
            return shop.bases.image(parent.digest, parent.reference, cancellation=cancellation)
        if parent.kind == "registry":
            registry = _registry_of(shop, parent.reference)
            return shop.bases.registry(parent.reference, registry=registry, cancellation=cancellation)
        folders = map(Path, shop.settings.local_image_folders)
        return shop.bases.local(parent.reference, folders, cancellation=cancellation)
    except ParentError as error:
        raise StageFailed(str(error)) from error


def _registry_of(shop: Workshop, reference: str) -> Registry | None:
    """The configured registry that a parent is on, for its credentials."""
    host = reference.split("/")[0]
    return next((item for item in shop.settings.registries.values() if item.url.split("/")[0] == host), None)


def _run_dockerfile(
    shop: Workshop, plan: BuildPlan, log: BuildLog, role: str, text: str, cancellation: Cancellation
) -> str:
    def pull(reference: str) -> Parent:
        """A further image that the Dockerfile names, with the credentials of the settings."""
        return shop.bases.registry(reference, registry=_registry_of(shop, reference), cancellation=cancellation)

    receive, flush = log.sink("dockerfile")
    try:
        return build_dockerfile(
            shop.storage,
            text,
            name=instance_name(plan, role),
            limits=shop.limits,
            timeout=shop.settings.builds.step_timeout_seconds,
            cancellation=cancellation,
            on_output=receive,
            pull=pull,
        )
    except ParentError as error:
        raise StageFailed(str(error)) from error
    finally:
        flush()


def _components(shop: Workshop, plan: BuildPlan, log: BuildLog, image_id: str, cancellation: Cancellation) -> str:
    with _timed(shop, plan, "components"), _instance(shop, plan, log, "build", image_id, cancellation) as instance:
        run_components(plan, BUILD, instance, log=log, s3=s3_of(plan, shop.s3), cancellation=cancellation)
        log.line("build", "committing the changes of the components")
        return instance.commit(created_by="imagesmith components")


@contextmanager
def _instance(
    shop: Workshop, plan: BuildPlan, log: BuildLog, role: str, image_id: str, cancellation: Cancellation
) -> Iterator[ContainerInstance]:
    instance = ContainerInstance.launch(
        shop.storage, image_id, name=instance_name(plan, role), limits=shop.limits, cancellation=cancellation
    )
    try:
        for missing in instance.unlimited:
            log.line(role, f"warning: {missing}")
        yield instance
    finally:
        # must not hide how the stage ended: what cannot be removed now is removed when the build ends
        try:
            instance.close()
        except (ProcessFailed, OSError) as error:
            log.line(role, f"warning: the container is not removed yet: {error}")


def _export(shop: Workshop, plan: BuildPlan, image_id: str, cancellation: Cancellation) -> ImageArtifact:
    return shop.layout.export_image(
        shop.storage,
        image_id,
        layout_reference(plan),
        cancellation=cancellation,
    )


def _push(
    shop: Workshop,
    plan: BuildPlan,
    log: BuildLog,
    target: PushTarget,
    registry: Registry | None,
    digest: str,
    cancellation: Cancellation,
) -> tuple[str, ...]:
    if registry is None:
        raise PushFailed(
            f'no registry is configured for the Region {target.region}; add [registries."{target.region}"] '
            "to the settings",
            permanent=True,
        )
    tags = tuple(dict.fromkeys((plan.default_tag, *target.tags)))

    def pause(seconds: float) -> None:
        cancellation.wait(seconds)
        cancellation.check()

    with shop.storage.scratch() as scratch:
        pushed = push_image(
            shop.layout.path,
            layout_reference(plan),
            digest=digest,
            registry=registry,
            repository=target.repository,
            tags=tags,
            attempts=shop.settings.builds.push_attempts,
            sleep=pause,
            cancellation=cancellation,
            on_line=lambda line: log.line("distribute", line),
            environment={"TMPDIR": str(scratch)},
            scratch=scratch,
        )
    log.line("distribute", f"{target.region}: {', '.join(pushed.uris)} ({pushed.digest})")
    inspection_stage.push_documents(shop, log, "distribute", registry, target.repository, digest)
    return pushed.uris


def _region_failure(plan: BuildPlan, target: PushTarget, message: str) -> dict[str, Any]:
    return {
        "region": target.region,
        "targetAccountId": plan.account,
        "status": "FAILED",
        "errorMessage": message[:1024],
    }


@contextmanager
def _timed(shop: Workshop, plan: BuildPlan, name: str) -> Iterator[None]:
    started = time.monotonic()
    try:
        yield
    finally:
        earlier = (
            shop.records.outcome(plan.image_arn).get("stages", {}).get(name, 0.0) if name == "dockerfile" else 0.0
        )
        shop.records.note_stage(plan.image_arn, name, earlier + time.monotonic() - started)
