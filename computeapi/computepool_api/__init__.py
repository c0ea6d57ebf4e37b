"""The alchemiscale compute API as a compute manager and a compute service see it.

One wire client, used by the operator (`ComputeManagerClient`) and by the worker
(`ComputeServiceClient`). The package knows no Kubernetes and no gufe. Errors are typed by what the
caller can do about them: see `computepool_api.errors`.
"""

from typing import Final

__version__: Final = "0.1.0"
