"""The worker: an ephemeral alchemiscale compute service."""
