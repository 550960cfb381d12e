"""Dockerfiles: their grammar, their stages and variables, and the templates of container recipes."""
