"""COPY and ADD of a Dockerfile: files for an image, from another root, from text or from the network."""
