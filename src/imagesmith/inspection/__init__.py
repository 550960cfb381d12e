"""Inspection of an image's contents: operating system and package inventory."""
