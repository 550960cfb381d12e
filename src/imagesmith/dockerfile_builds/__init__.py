"""Carries out Dockerfiles in the sealed instances in which components run."""
