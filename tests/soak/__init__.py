"""A soak: Tasks flow through a real cluster while everything is killed, cut off and deleted."""
