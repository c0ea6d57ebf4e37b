"""What several of these tests share."""

from collections.abc import Callable
from pathlib import Path

from computepool_api.credentials import Credentials
from computepool_api.transport import ComputeAPI

IDENTITY = Credentials("compute-identity", "compute-key")
"""The identity of the stand-in compute API."""

MakeAPI = Callable[..., ComputeAPI]


def names(folder: Path) -> list[str]:
    """List what lies in a folder."""
    return [path.name for path in folder.iterdir()]
