"""Reads the inventory of a container image in a sealed process, once for the same layers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from imagesmith.builds.failures import StepFailed
from imagesmith.builds.worker_context import WorkerContext, instance_name
from imagesmith.inspection.inventory import Inventory
from imagesmith.inspection.inventory_calls import inventory_of_mount
from imagesmith.inspection.kept_inventories import KeptInventories
from imagesmith.namespaces.sealed_answers import SealedCallFailed
from imagesmith.processes import Cancellation
from imagesmith.recipes.plan import BuildPlan


def read_inventory(
    worker_context: WorkerContext, plan: BuildPlan, image_id: str, cancellation: Cancellation
) -> Inventory:
    """Read packages and operating system from the root file system, or take what was read of these layers before.
    Raises StepFailed, Cancelled."""
    name, storage = instance_name(plan, "after"), worker_context.storage

    def read() -> Inventory:
        storage.remove(name)
        storage.create(name, image_id)
        with storage.new_namespace() as namespace, storage.scratch() as scratch:
            try:
                root = storage.mount(name, namespace)
                with inventory_reported():
                    return inventory_of_mount(storage.sealed, namespace, root, scratch, cancellation)
            finally:
                storage.remove(name)

    diff_ids = [layer.diff_id for layer in storage.layer_blobs(image_id)]
    return KeptInventories(storage.root / "inventories").of(diff_ids, read)


@contextmanager
def inventory_reported() -> Iterator[None]:
    """Report the failure of a sealed process as one of the step."""
    try:
        yield
    except SealedCallFailed as error:
        raise StepFailed(f"the packages of the image cannot be read: {error.strerror}") from error
