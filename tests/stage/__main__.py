"""`python -m stage`: have all that a cluster of our own takes: packages, programs, images."""

from __future__ import annotations

import sys

from stage import images
from testcluster import binaries, packages
from testcluster.cache import cache_folder, locked
from testcluster.errors import TestClusterError
from testcluster.progress import to_stderr


def main() -> int:
    """Install and build what is missing; 1, with the reason, if that fails."""
    try:
        with locked(cache_folder() / "session.lock", to_stderr):
            packages.ensure((*packages.NODE, *packages.IMAGES), "The test cluster", to_stderr)
            binaries.ensure(to_stderr)
        images.build()
    except TestClusterError as error:
        print(error, file=sys.stderr)
        return 1
    print("packages, programs and images are there")
    return 0


if __name__ == "__main__":
    sys.exit(main())
