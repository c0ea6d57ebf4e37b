"""The image of the pause container, which doubles as a small image for test pods."""

from pathlib import Path

from testcluster import archive
from testcluster.packages import BUSYBOX

TAG = "localhost/computepool/busybox:test"
APPLETS = ("sh", "sleep", "echo", "cat", "true", "false", "test", "touch", "ls", "id", "nc")


def write(path: Path) -> Path:
    """Write the image, made of the host's static busybox, as a docker-archive to ``path``."""
    content = archive.layer(
        {"bin/busybox": BUSYBOX.read_bytes()}, {f"bin/{name}": "busybox" for name in APPLETS}
    )
    archive.write(path, TAG, content, ["/bin/busybox", "sleep", "2147483647"])
    return path
