"""The step actions: one module per family, and the table that a run looks them up in."""
