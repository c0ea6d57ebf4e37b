"""The demo: a cluster, a simulated compute API with Tasks, the operator, and a pool at work."""
