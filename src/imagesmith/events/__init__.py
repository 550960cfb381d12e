"""What happened, for those outside: events in an outbox."""
