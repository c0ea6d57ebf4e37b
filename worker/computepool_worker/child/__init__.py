"""The child process: executes Tasks and knows neither the server nor Kubernetes.

It speaks with its parent as `computepool_worker.boundary` says.
"""
