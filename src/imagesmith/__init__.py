"""imagesmith: a self-hosted image factory that speaks EC2 Image Builder's API."""

__version__ = "0.1.0"
