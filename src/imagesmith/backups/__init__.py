"""Backups of a data directory and of the database of several hosts: taken while builds run, restored elsewhere."""
