"""A month in a minute: the real planner and the stand-in server in a world on virtual time."""
