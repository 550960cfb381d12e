"""Events for external receivers, in an outbox."""
