"""The state directory: the file ``holding`` is there exactly while the worker holds a Task.

A pod's readiness probe looks at it, and by that the operator knows that a worker has claimed.
"""

from pathlib import Path

HOLDING = "holding"


class Presence:
    """The file ``holding`` in ``directory``; with no directory nothing is shown."""

    def __init__(self, directory: Path | None) -> None:
        self._file = None if directory is None else directory / HOLDING

    def prepare(self) -> None:
        """Make the directory, and take away the file of a worker that was killed.

        Raises OSError.
        """
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.unlink(missing_ok=True)

    def hold(self, task: str) -> None:
        """Show that ``task`` is held. Raises OSError."""
        if self._file is not None:
            self._file.write_text(f"{task}\n", encoding="ascii")

    def release(self) -> None:
        """Show that no Task is held. Raises OSError."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)
