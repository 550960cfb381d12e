"""What a run on a managed image of the service builds on, and the sentence for one without a meaning here."""

from __future__ import annotations

from imagesmith.builds.failures import StepFailed
from imagesmith.builds.work import Work
from imagesmith.recipes.plan import ManagedSource
from imagesmith.values.arn import Arn


def configured_source(work: Work) -> ManagedSource:
    """The source of the plan's managed parent; the log says what stands in for it. Raises StepFailed."""
    parent = work.plan.parent
    source = parent.managed_source
    if source.kind == "none":
        name = Arn.parse(parent.reference).slug
        wanted = "disk and checksum" if work.plan.image_kind.is_disk else "registry"
        raise StepFailed(
            f"the managed image {name} has no content here; say what stands in for it in the settings: "
            f"[managed_images.{name}] with base, or with {wanted}"
        )
    if parent.stand_in:
        work.log.line("parent", f"{parent.reference} is {parent.stand_in} here")
    return source
