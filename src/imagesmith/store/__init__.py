"""Tables, typed queries and units of work for SQLite and PostgreSQL."""
