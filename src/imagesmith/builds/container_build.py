"""Builds of container images.

parent -> Dockerfile -> instance -> commit -> Dockerfile -> layout -> registries
                        (steps)     ^         ^
                                    '- finish -'
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from imagesmith.artifacts.storage import StorageError
from imagesmith.builds import container, inspection
from imagesmith.builds.evidence import keep_evidence
from imagesmith.builds.failures import StepFailed
from imagesmith.builds.instances import InstanceGone
from imagesmith.builds.kind import Finish
from imagesmith.builds.read_inventories import read_inventory
from imagesmith.builds.reproducible import layer_rules
from imagesmith.builds.revoked_images import refuse_revoked
from imagesmith.builds.steps.context import Action, Outcome, StepRun
from imagesmith.builds.steps.instance import launch_instance
from imagesmith.builds.steps.table import CONTAINER_ACTIONS
from imagesmith.builds.work import Work
from imagesmith.builds.worker_context import WorkerContext
from imagesmith.distribution.containers import distribute
from imagesmith.distribution.destinations.embedded_layout import local_outputs
from imagesmith.dockerfiles.template import runs_components
from imagesmith.inspection.inventory import Inventory
from imagesmith.inspection.scanning.scanner import ScanTarget
from imagesmith.recipes.plan import BuildPlan, PlannedScan

_COMMITTED: Final = "_image"
"""Fact of the end of a BUILD workflow: the id of the committed image in the storage."""


class ContainerBuild:
    """The BuildKind of container recipes."""

    actions: Final[Mapping[str, Action]] = MappingProxyType(CONTAINER_ACTIONS)

    def refusal(self, action: str) -> str:
        return (
            f"{action} is for machine images, and this run makes a container image; take the step out, or run it "
            "only if $.imagebuilder.imageType is AMI"
        )

    def start(self, run: StepRun, inputs: Mapping[str, Any]) -> Outcome:
        return launch_instance(run, inputs)

    def without_components(self, plan: BuildPlan) -> str:
        if runs_components(plan.dockerfile):
            return ""
        return "the Dockerfile has no components variable: build and validate phases do not run"

    def finish(self, started: datetime) -> Sequence[tuple[str, Finish]]:
        return ("commit", _commit), ("keep", partial(_keep, started=started))

    def adopt_parent(self, work: Work) -> str:
        return container.adopt_parent(work)

    def inventory(self, work: Work, digest: str) -> Inventory:
        tools = work.worker_context
        image_id = tools.layout.ensure_in_storage(tools.storage, digest, cancellation=work.cancellation)
        return read_inventory(tools, work.plan, image_id, work.cancellation)

    @contextmanager
    def scan_target(self, work: Work, wanted: PlannedScan, digest: str) -> Iterator[ScanTarget]:
        """If a registry is configured, the image is pushed there first, as in the service."""
        inspection.push_for_scan(work, wanted, digest)
        inventory = self.inventory(work, digest)
        with work.worker_context.layout.view(digest) as view:
            yield ScanTarget(inventory, view)

    def distribute(self, work: Work, digest: str) -> Sequence[Mapping[str, Any]]:
        refuse_revoked(work)
        with work.timed("distribute"):
            keep_evidence(work, digest)
            return distribute(work.distribution, digest).containers

    def outputs(
        self,
        worker_context: WorkerContext,
        plan: BuildPlan,
        containers: Sequence[Mapping[str, Any]],
        *,
        built: bool,
    ) -> Mapping[str, Any] | None:
        shown = list(containers)
        if built and not shown:
            shown += local_outputs(plan, worker_context.layout, worker_context.shared_url)
        return {"containers": [dict(item) for item in shown]} if shown else None


def _commit(run: StepRun, outputs: Mapping[str, Any]) -> dict[str, Any]:
    if "InstanceId" not in outputs:
        raise StepFailed("Build workflow must have output named InstanceId to build container.")
    id = str(outputs["InstanceId"]).strip()
    instance = run.attach_container({"instanceId": id})
    run.note("committing the changes of the build instance")
    with run.timed("commit"):
        last = not run.plan.keep_completed_instance
        image = instance.commit(created_by="imagesmith components", rules=layer_rules(run), last=last)
    if not run.plan.keep_completed_instance:
        try:
            run.worker_context.instances.terminate(id, image_arn=run.plan.image_arn)
        except (StorageError, OSError) as error:
            run.note(f"warning: the container is not removed yet: {error}")
    return {_COMMITTED: image}


def _keep(run: StepRun, given: Mapping[str, Any], *, started: datetime) -> dict[str, Any]:
    tools = run.worker_context
    if tools.worker and not tools.storage.has_image(given[_COMMITTED]):
        raise InstanceGone("the worker that committed the image is gone, and the image with it")
    outcome = tools.outcomes.get(run.plan.image_arn)
    finished = container.finished_image(run, given[_COMMITTED], parent=outcome.parent)
    cached = [*(item for items in outcome.cached.values() for item in items), *finished.cached]
    digest = container.keep_image(
        run, finished.image_id, parent=outcome.parent, started=started, cached=cached
    )  # fmt: skip
    return {"digest": digest}
