"""What the floors above need of an engine."""

from __future__ import annotations

from typing import Protocol


class Builder(Protocol):
    """Starts and stops builds; the plan is in the store under the image's ARN."""

    def start(self, image_arn: str) -> None:
        """Enqueue a build. Calling twice for one image starts one build."""
        ...

    def cancel(self, image_arn: str) -> None:
        """Stop a build that waits or runs, soon; its state follows."""
        ...
