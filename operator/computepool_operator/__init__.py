"""The Kubernetes operator: one compute manager for each AlchemiscaleComputePool."""
