"""Lifecycle policies: which images a rule selects (pure), and what is done to them (a run of the engine)."""
