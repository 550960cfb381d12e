"""Finds due pipelines, decides about their runs, and starts images."""
