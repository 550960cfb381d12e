"""Managed content as documents: bases, components, workflows."""
