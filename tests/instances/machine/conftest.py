"""The managed base as a fixture."""

from __future__ import annotations
