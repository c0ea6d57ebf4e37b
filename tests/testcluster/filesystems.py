"""Whether overlay mounts can be made on top of a folder's file system."""

from pathlib import Path


def can_overlay(path: Path, mountinfo: str | None = None) -> bool:
    """Tell whether ``path`` lies on a file system that can be the upper layer of an overlay.

    An overlay cannot: that is what a container's own root is. ``mountinfo`` is the text of
    /proc/self/mountinfo, read from there unless given.
    """
    text = Path("/proc/self/mountinfo").read_text() if mountinfo is None else mountinfo
    mounts = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        point = left.split()[4]
        if path.is_relative_to(point):
            mounts.append((len(point), right.split()[0]))
    return not mounts or max(mounts, key=lambda mount: mount[0])[1] != "overlay"
