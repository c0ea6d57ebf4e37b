"""The worker: an ephemeral alchemiscale compute service."""

from computepool_api import __version__ as __version__
