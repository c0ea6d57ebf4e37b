"""The recorded exchanges with a real server, replayed against the simulator or a real server."""
