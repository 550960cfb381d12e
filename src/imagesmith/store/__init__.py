"""Tables, typed queries and units of work on SQLite or PostgreSQL."""
