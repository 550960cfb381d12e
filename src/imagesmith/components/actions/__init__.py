"""The action modules: one Python module per family, each with its schemas beside its code."""
