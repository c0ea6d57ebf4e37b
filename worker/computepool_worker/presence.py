"""The state directory, where probes look.

The file ``holding`` is there exactly while the worker holds a Task: by a pod's readiness the
operator knows that a worker has claimed. The file ``alive`` is touched every few seconds: one that
is minutes old tells a liveness probe that the worker hangs. The file ``stop`` is made by a pod's
preStop hook, just before the signal, which a process 1 of a container loses while it is starting.
"""

from pathlib import Path

HOLDING = "holding"
ALIVE = "alive"
STOP = "stop"


class Presence:
    """The files in ``directory``; with no directory nothing is shown."""

    def __init__(self, directory: Path | None) -> None:
        self._file = None if directory is None else directory / HOLDING
        self._alive = None if directory is None else directory / ALIVE
        self._stop = None if directory is None else directory / STOP

    def prepare(self) -> None:
        """Make the directory, and take away the file of a worker that was killed.

        Raises OSError.
        """
        if self._file is not None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.unlink(missing_ok=True)

    def told_to_stop(self) -> bool:
        """Whether this process was told to stop before it listened to signals. Raises OSError.

        To be asked once, when it does listen: the file is gone then.
        """
        if self._stop is None or not self._stop.exists():
            return False
        self._stop.unlink()
        return True

    def beat(self) -> None:
        """Show that this process is alive. Raises OSError."""
        if self._alive is not None:
            self._alive.touch()

    def end(self) -> None:
        """Show that this process is no more. Raises OSError."""
        if self._alive is not None:
            self._alive.unlink(missing_ok=True)

    def hold(self, task: str) -> None:
        """Show that ``task`` is held. Raises OSError."""
        if self._file is not None:
            self._file.write_text(f"{task}\n", encoding="ascii")

    def release(self) -> None:
        """Show that no Task is held. Raises OSError."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)
