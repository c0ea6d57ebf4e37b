"""The termination message: what the kubelet puts into the pod's status when the container ends."""

from collections.abc import Mapping
from pathlib import Path

from computepool_api.outcomes import TerminationMessage

PATH_VARIABLE = "COMPUTEPOOL_TERMINATION_LOG"
# The kubelet mounts this file into every container; elsewhere there is none.
DEFAULT_PATH = Path("/dev/termination-log")


class TerminationLog:
    """The file that takes the message; without a path the message goes nowhere."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "TerminationLog":
        """Take the path from the environment, or the kubelet's file if it exists."""
        given = environment.get(PATH_VARIABLE)
        if given:
            return cls(Path(given))
        return cls(DEFAULT_PATH if DEFAULT_PATH.exists() else None)

    def clear(self) -> None:
        """Say nothing any more. Raises OSError."""
        if self._path is not None:
            self._path.write_text("", encoding="utf-8")

    def write(self, message: TerminationMessage) -> None:
        """Replace what the file says. Raises OSError."""
        # In place: the file is a mount point and cannot be renamed over.
        if self._path is not None:
            self._path.write_text(message.to_json(), encoding="utf-8")
