"""The Kubernetes operator: one compute manager for each AlchemiscaleComputePool."""

from importlib.metadata import version

__version__ = version("alchemiscale-computepool")
