"""Component documents: grammar, actions, runner."""
