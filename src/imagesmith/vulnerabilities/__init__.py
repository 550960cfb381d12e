"""Vulnerabilities of all images: which images are affected, what is news for them, what a rebuild mends."""
