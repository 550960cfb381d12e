"""The common part of both document languages: YAML with positions, conditions, references."""
