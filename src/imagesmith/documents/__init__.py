"""What both document languages share: YAML with positions, conditions, references."""
