"""Layers of container images: archives, folders, overlays of them."""
