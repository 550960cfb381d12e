"""The machine kind of instance: a virtual machine on an overlay of its parent's disk."""
