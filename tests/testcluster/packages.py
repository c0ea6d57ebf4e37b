"""The Debian packages that a node and the image builds need, and their installation."""

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from testcluster.commands import run
from testcluster.errors import TestClusterError
from testcluster.progress import Progress, timed

SEARCH_PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/usr/local/sbin"))
BUSYBOX = Path("/bin/busybox")


@dataclass(frozen=True)
class Package:
    """A Debian package and a file or command that is there once it is installed."""

    name: str
    provides: str

    def is_present(self) -> bool:
        """Tell whether what the package provides is there, whoever installed it."""
        if self.provides == str(BUSYBOX):
            return is_static(BUSYBOX)
        if self.provides.startswith("/"):
            return Path(self.provides).exists()
        return command(self.provides) is not None


CONTROL_PLANE = (Package("openssl", "openssl"),)
NODE = (
    *CONTROL_PLANE,
    Package("containerd", "containerd"),
    Package("runc", "runc"),
    Package("containernetworking-plugins", "/usr/lib/cni/ptp"),
    Package("iproute2", "ip"),
    Package("iptables", "iptables"),
    Package("nftables", "nft"),
    Package("conntrack", "conntrack"),
    Package("busybox-static", str(BUSYBOX)),
)
IMAGES = (Package("buildah", "buildah"), Package("debootstrap", "debootstrap"))


def command(name: str) -> str | None:
    """Return the path of a command, looked for in the system folders as well; None if absent."""
    return shutil.which(name, path=SEARCH_PATH)


def is_static(program: Path) -> bool:
    """Tell whether an ELF program runs without a dynamic loader, as in an image of its own."""
    try:
        with program.open("rb") as opened:
            head = opened.read(8192)
    except OSError:
        return False
    return head.startswith(b"\x7fELF") and b"/ld-linux" not in head


def missing(
    packages: Sequence[Package], is_present: Callable[[Package], bool] = Package.is_present
) -> list[str]:
    """Return the names of the packages of which nothing is there."""
    return [package.name for package in packages if not is_present(package)]


def install_command(names: Sequence[str]) -> str:
    """Return what to type to install packages."""
    return f"apt-get update && apt-get install --yes --no-install-recommends {' '.join(names)}"


def require(packages: Sequence[Package], purpose: str) -> None:
    """Raise TestClusterError, with the command that helps, unless all packages are there."""
    if names := missing(packages):
        raise TestClusterError(
            f"{purpose} needs Debian packages that are missing: {', '.join(names)}.\n"
            f"As root:  {install_command(names)}"
        )


def ensure(packages: Sequence[Package], purpose: str, progress: Progress) -> None:
    """Install what is missing by apt-get, as root.

    Raises TestClusterError when not root, without apt-get, or when the installation fails.
    """
    names = missing(packages)
    if not names:
        return
    apt = command("apt-get")
    if os.geteuid() != 0 or apt is None:
        require(packages, purpose)
        return
    environment = dict(os.environ) | {"DEBIAN_FRONTEND": "noninteractive"}
    with timed(progress, f"installed {' '.join(names)}"):
        progress(f"{purpose} needs Debian packages: installing {' '.join(names)}")
        run([apt, "update", "--quiet"], env=environment)
        install = [apt, "install", "--quiet", "--yes", "--no-install-recommends", *names]
        run(install, env=environment, timeout=1200)
    require(packages, purpose)
