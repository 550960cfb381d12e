"""A build, stage by stage, on instances."""
