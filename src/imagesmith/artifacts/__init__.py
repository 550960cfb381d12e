"""The bytes an image consists of: OCI images, base images, blobs by digest."""
