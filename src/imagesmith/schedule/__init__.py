"""Finds due pipelines, decides, starts."""
