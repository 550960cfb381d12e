"""The states in which images, runs of workflows and their steps stay (spec/api.md, spec/workflows.md)."""

from __future__ import annotations

FINAL = frozenset({"AVAILABLE", "FAILED", "CANCELLED", "DEPRECATED", "DISABLED", "DELETED"})
"""Of images: nothing runs any more (spec/api.md 5.1)."""
FINAL_EXECUTION = frozenset({"COMPLETED", "FAILED", "ROLLBACK_COMPLETED", "CANCELLED", "SKIPPED"})
FINAL_STEP = frozenset({"COMPLETED", "FAILED", "SKIPPED", "CANCELLED"})
