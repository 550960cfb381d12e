"""The step actions: one module per family, and the table of actions for runs."""
