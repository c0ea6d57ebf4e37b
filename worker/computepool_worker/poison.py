"""Tasks that are known to take workers down.

The operator mounts the list into every worker of a pool: a JSON list of ``{"task": key, "story":
text}``. It may change while a worker runs, so it is read whenever a Task was claimed.
"""

import json
from pathlib import Path

_NO_STORY = "This Task is known to take down whatever executes it."


class PoisonListError(ValueError):
    """The list cannot be read; says where and what is wrong."""


def poison_stories(path: Path | None) -> dict[str, str]:
    """Return the story of each Task in the list; a file that is not there lists nothing.

    Raises PoisonListError.
    """
    if path is None:
        return {}
    try:
        entries = json.loads(path.read_text(encoding="utf-8") or "[]")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise PoisonListError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise PoisonListError(f"{path} is not valid JSON") from None
    if not isinstance(entries, list):
        raise PoisonListError(f"{path} must hold a list")
    stories: dict[str, str] = {}
    for entry in entries:
        match entry:
            case {"task": str(task), "story": str(story)}:
                # The server refuses a failure without a traceback when it has half stored it.
                stories[task] = story if story.strip() else _NO_STORY
            case _:
                raise PoisonListError(f"{path}: every entry must have a task and a story")
    return stories
