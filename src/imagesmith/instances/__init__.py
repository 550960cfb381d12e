"""The Instance protocol and its kinds: where components run."""
