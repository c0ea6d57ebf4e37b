"""The directories of one Task: made before it is fetched, removed when nothing needs them."""

import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class TaskDirectories:
    """``shared`` and ``scratch`` are the Protocol's, ``exchange`` is for the two processes' files.

    Each has a name of its own, so that workers can share the base directories.
    """

    shared: Path
    scratch: Path
    exchange: Path
    keep_shared: bool
    keep_scratch: bool

    @property
    def transformation(self) -> Path:
        """The file that the server's answer is written to."""
        return self.exchange / "transformation.json"

    @property
    def result(self) -> Path:
        """The file that the child writes."""
        return self.exchange / "result.json"

    @classmethod
    def make(
        cls,
        task: str,
        *,
        shared_basedir: Path,
        scratch_basedir: Path,
        keep_shared: bool,
        keep_scratch: bool,
    ) -> "TaskDirectories":
        """Make the directories of ``task`` under the base directories, or none. Raises OSError."""
        with ExitStack() as undo:
            directories = cls(
                shared=_make(shared_basedir, f"{task}.", undo),
                scratch=_make(scratch_basedir, f"{task}.", undo),
                exchange=_make(scratch_basedir, f"exchange.{task}.", undo),
                keep_shared=keep_shared,
                keep_scratch=keep_scratch,
            )
            undo.pop_all()
        return directories

    def empty(self, attempt: int) -> None:
        """Let another attempt begin with empty directories. Raises OSError.

        What is to be kept of attempt number ``attempt`` gets its number as a suffix.
        """
        for directory, keep in ((self.shared, self.keep_shared), (self.scratch, self.keep_scratch)):
            if keep:
                directory.rename(f"{directory}.attempt-{attempt}")
            else:
                shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(exist_ok=True)

    def free_bytes(self) -> int:
        """Return how much more the scratch space takes. Raises OSError."""
        # Its parent: the science may have removed its own directory.
        return shutil.disk_usage(self.scratch.parent).free

    def remove(self) -> list[str]:
        """Remove what is not to be kept; return what could not be removed, with the reason."""
        problems: list[str] = []
        directories = [
            self.exchange,
            *([] if self.keep_shared else [self.shared]),
            *([] if self.keep_scratch else [self.scratch]),
        ]
        for directory in directories:
            shutil.rmtree(
                directory, onerror=lambda _, path, info: problems.append(f"{path}: {info[1]}")
            )
        return problems


def _make(base: Path, prefix: str, undo: ExitStack) -> Path:
    base.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=prefix, dir=base))
    undo.callback(made.rmdir)
    return made
