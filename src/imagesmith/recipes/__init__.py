"""A recipe resolved into the build plan that one run obeys."""
