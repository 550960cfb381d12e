"""What the floors above need of an engine."""

from __future__ import annotations

from imagesmith.workflows.journal import Runs

Builder = Runs
"""Starts, stops and wakes builds; the plan is in the store under the image's ARN."""
