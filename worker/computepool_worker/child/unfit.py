"""Why this process may not take Tasks."""

from typing import Literal, TypeAlias

Fault: TypeAlias = Literal["node", "image"]


class UnfitError(Exception):
    """No Task may be claimed here; the text says what is wrong and what to do.

    ``fault`` is ``node`` where another machine may do better, and ``image`` where none will: the
    operator keeps workers from a node for the one, and stops making them for the other.
    """

    def __init__(self, reason: str, fault: Fault = "node") -> None:
        super().__init__(reason)
        self.fault: Fault = fault
