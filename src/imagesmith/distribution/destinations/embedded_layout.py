"""The OCI layout of the data directory, which keeps images while no registry is configured (spec/api.md 5.2)."""

from __future__ import annotations

from typing import Any

from imagesmith.artifacts.layout import OciLayout
from imagesmith.distribution.destination import Delivery, DistributionContext
from imagesmith.recipes.plan import BuildPlan


class EmbeddedLayout:
    """Accepts images for the build Region; every built image is in the layout already."""

    member = ""

    def accepts(self, delivery: Delivery, /) -> bool:
        return (
            delivery.region == delivery.plan.region
            and delivery.settings.registry_for(delivery.account, delivery.region) is None
        )

    def refusal(self, _: Delivery, /) -> str:
        return ""

    def deliver(self, context: DistributionContext, delivery: Delivery) -> tuple[str, ...]:
        """Only log the location: outputs name the layout only if the image was not pushed anywhere."""
        kept = local_location(context.plan, context.layout, context.shared_url)
        context.log.line(
            "distribute", f"no registry is configured for {delivery.region}: the image remains at {kept}"
        )
        return ()


def local_location(plan: BuildPlan, layout: OciLayout, shared_url: str) -> str:
    """The location of the image: in the embedded layout, as skopeo names it, or in the shared store."""
    if shared_url:
        return f"{shared_url}#{plan.layout_reference}"
    return f"oci:{layout.path}:{plan.layout_reference}"


def local_outputs(plan: BuildPlan, layout: OciLayout, shared_url: str) -> list[dict[str, Any]]:
    """outputResources.containers of an image that was not pushed."""
    return [{"region": plan.region, "imageUris": [local_location(plan, layout, shared_url)]}]
