"""Push, export and share what was built: one module per kind of destination."""
