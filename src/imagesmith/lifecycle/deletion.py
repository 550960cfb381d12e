"""Deletes one image, so that a kill at any moment leaves work that the same execution continues.

    prepare (one transaction)   an image that is used or built again is SKIPPED; else its outputs are written below
                                it, and it is DELETED: no run can start on it, no client can retry it
    each output                 AMI: catalog entry, then the disk; container: registry, then the layout
    end (one transaction)       all outputs are removed: logs and record go
                                one is excluded or failed: the image has its state again, without what is gone

An image without a record was deleted before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from sqlalchemy.engine import Connection

from imagesmith.artifacts.removals import removing
from imagesmith.artifacts.retry_policy import RetryPolicy
from imagesmith.build_logs.log_removal import remove_logs
from imagesmith.builds.worker_context import WorkerContext
from imagesmith.distribution.role_access import refused_to_role
from imagesmith.lifecycle.decide import AFFECTED
from imagesmith.lifecycle.in_use import user_of_disk, user_of_image
from imagesmith.lifecycle.outputs import outputs_of, stored_output
from imagesmith.lifecycle.policy import Rule
from imagesmith.lifecycle.registry_removal import KeptByTag, NotRemoved, remove_uris
from imagesmith.processes import Cancellation
from imagesmith.recipes.plan import BuildPlan, PlannedRole
from imagesmith.store import amis, lifecycle, queries
from imagesmith.store.image_removal import forget_image
from imagesmith.store.lifecycle import LifecycleResource
from imagesmith.store.records import Record
from imagesmith.values.arn import Arn
from imagesmith.values.names import iso_instant
from imagesmith.values.states import ImageStatus, LifecycleAction, LifecycleOutcome

_LAYOUT = "oci:"

Value = TypeVar("Value")


@dataclass(frozen=True)
class Deletion:
    """The deletion of the image of one row of an execution."""

    worker_context: WorkerContext
    item: LifecycleResource
    rule: Rule
    role: PlannedRole | None

    def carry_out(self, cancellation: Cancellation) -> None:
        """Do everything that is left, and write the outcome into the row. Raises Cancelled between outputs."""
        with removing(self.worker_context.settings.data_dir, cancellation):
            self._carry_out(cancellation)

    def _carry_out(self, cancellation: Cancellation) -> None:
        if not self._change(self._prepare):
            return
        for output in self._outputs():
            if output.status is LifecycleOutcome.IN_PROGRESS:
                cancellation.check()
                done = self._remove(output, cancellation)
                self._change(lambda tx, done=done: lifecycle.put_resource(tx, done))  # type: ignore[misc]
        outputs = self._outputs()
        if all(output.status is LifecycleOutcome.SUCCESS for output in outputs):
            self._remove_logs()
            self._change(self._forget)
        else:
            self._change(lambda tx: self._return(tx, outputs))

    def give_up(self, reason: str) -> None:
        """End after an unexpected error: the image has its state again, and the row FAILED."""

        def end(tx: Connection) -> None:
            self._restore(tx, set())
            self._end(tx, LifecycleOutcome.FAILED, reason)

        self._change(end)

    # The image

    def _prepare(self, tx: Connection) -> bool:
        """Write the outputs and mark the image; returns whether there is more to do."""
        image = queries.get(tx, self.item.resource_id)
        if image is None:
            self._end(tx, LifecycleOutcome.SUCCESS)
            return False
        if image.status == ImageStatus.DELETED and image.document.get("lifecycleExecutionId") == self._id:
            return True
        known = image.status in AFFECTED[LifecycleAction.DELETE]
        reason = user_of_image(tx, image) if known else f"The image is {image.status}."
        if reason:
            self._end(tx, LifecycleOutcome.SKIPPED, reason)
            return False
        now = self.worker_context.clock()
        for index, output in enumerate(outputs_of(tx, image, self.rule, now=now)):
            row = stored_output(self.item, index, output, action=LifecycleAction.DELETE, now=now)
            lifecycle.put_resource(tx, row)
        was = {"was": dict(image.document["state"])}
        lifecycle.put_resource(tx, replace(self.item, document={**self.item.document, **was}))
        self._set_state(tx, image, {"status": ImageStatus.DELETED})
        return True

    def _set_state(self, tx: Connection, image: Record, state: dict[str, object]) -> None:
        document = {**image.document, "state": state, "lifecycleExecutionId": self._id}
        queries.replace(tx, replace(image, document=document, status=str(state["status"])))

    def _forget(self, tx: Connection) -> None:
        forget_image(tx, self.item.resource_id)
        self._end(tx, LifecycleOutcome.SUCCESS)

    def _return(self, tx: Connection, outputs: Sequence[LifecycleResource]) -> None:
        """Give the image its state back, without the outputs that are gone."""
        failed = [row for row in outputs if row.status is LifecycleOutcome.FAILED]
        kept = failed or [row for row in outputs if row.status is LifecycleOutcome.SKIPPED]
        self._restore(tx, {row.resource_id for row in outputs if row.status is LifecycleOutcome.SUCCESS})
        outcome = LifecycleOutcome.FAILED if failed else LifecycleOutcome.SKIPPED
        self._end(tx, outcome, f"{kept[0].resource_id} is kept: {kept[0].document['reason']}")

    def _restore(self, tx: Connection, gone: set[str]) -> None:
        """Set the state from before the deletion, if that has begun."""
        image = queries.get(tx, self.item.resource_id)
        stored = lifecycle.get_resource(tx, self._id, self.item.resource_id)
        if image is not None and stored is not None and "was" in stored.document:
            self._set_state(tx, _without_outputs(image, gone), dict(stored.document["was"]))

    def _end(self, tx: Connection, outcome: LifecycleOutcome, reason: str = "") -> None:
        lifecycle.put_resource(tx, self._ended(self.item, outcome, reason))

    def _remove_logs(self) -> None:
        plan = self._plan()
        if plan is not None:
            remove_logs(plan, self.worker_context.settings.data_dir)

    # One output

    def _remove(self, output: LifecycleResource, cancellation: Cancellation) -> LifecycleResource:
        try:
            if "imageUris" in output.document:
                self._remove_container(output, self._retry_policy(cancellation))
            else:
                self._remove_ami(output)
        except KeptByTag as error:
            return self._ended(output, LifecycleOutcome.SKIPPED, str(error))
        except (NotRemoved, OSError) as error:
            return self._ended(output, LifecycleOutcome.FAILED, str(error))
        return self._ended(output, LifecycleOutcome.SUCCESS)

    def _remove_ami(self, output: LifecycleResource) -> None:
        """Remove the entry of the catalog, then the disk; a disk that something else uses stays."""
        digest = str(output.document["digest"])
        account, region = output.document["account"], output.document["region"]

        def unregister(tx: Connection) -> str:
            amis.remove_ami(tx, output.resource_id)
            return user_of_disk(tx, digest, image_arn=self.item.resource_id) if digest else "kept"

        used = self.worker_context.records.database.change(f"{account}/{region}", unregister)
        if not used:
            self.worker_context.check_fence()
            self.worker_context.disks.remove(digest)

    def _retry_policy(self, cancellation: Cancellation) -> RetryPolicy:
        """How long an unavailable registry is waited for: as long as by a build."""
        builds = self.worker_context.settings.builds

        def pause(seconds: float) -> None:
            cancellation.wait(seconds)
            cancellation.check()

        return RetryPolicy(builds.push_attempts, builds.registry_pause_seconds, pause)

    def _remove_container(self, output: LifecycleResource, retry_policy: RetryPolicy) -> None:
        """Remove the references from the registry of the Region, and the name from the embedded layout."""
        context, document = self.worker_context, output.document
        context.check_fence()
        uris = [uri for uri in document["imageUris"] if not uri.startswith(_LAYOUT)]
        if uris:
            registry = context.settings.registry_for(document["account"], document["region"])
            if registry is None:
                raise NotRemoved(f"No registry is configured for the Region {document['region']}.")
            if refusal := refused_to_role(self.role, document["account"], document["region"], registry):
                raise NotRemoved(f"{refusal}.")
            remove_uris(registry, uris, retry_policy)
        plan = self._plan()
        if plan is not None:
            context.layout.delete(plan.layout_reference)

    # Rows

    @property
    def _id(self) -> str:
        return self.item.execution_id

    def _outputs(self) -> Sequence[LifecycleResource]:
        return self.worker_context.records.database.query(
            lambda tx: lifecycle.list_resources(tx, self._id, parent_id=self.item.resource_id)
        )

    def _plan(self) -> BuildPlan | None:
        return self.worker_context.records.plan(self.item.resource_id)

    def _change(self, action: Callable[[Connection], Value]) -> Value:
        return self.worker_context.records.database.change(Arn.parse(self.item.resource_id).scope, action)

    def _ended(self, row: LifecycleResource, outcome: LifecycleOutcome, reason: str = "") -> LifecycleResource:
        ended = {"reason": reason, "endTime": iso_instant(self.worker_context.clock())}
        return replace(row, status=outcome, document={**row.document, **ended})


def _without_outputs(image: Record, gone: set[str]) -> Record:
    """An image whose outputResources no longer name what was removed."""
    outputs = dict(image.document.get("outputResources", {}))
    if "amis" in outputs:
        outputs["amis"] = [item for item in outputs["amis"] if item.get("image") not in gone]
    if "containers" in outputs:
        outputs["containers"] = [
            item for item in outputs["containers"] if not gone.intersection(item.get("imageUris", ()))
        ]
    return replace(image, document={**image.document, "outputResources": outputs})
