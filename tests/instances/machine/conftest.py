"""The managed base as a fixture."""

from __future__ import annotations

from fixtures_machines import machine_base

__all__ = ["machine_base"]
