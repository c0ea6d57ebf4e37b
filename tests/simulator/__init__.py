"""The stand-in alchemiscale compute API: a real HTTP server with the real one's behaviour.

`store` is the pure state machine, `api` its HTTP face, `admin` the second port that tests script
it through. `process.SimulatorProcess` starts it as a subprocess, `serving.running` on the
caller's own event loop.
"""
