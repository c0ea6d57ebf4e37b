"""What new workers must heed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .memory import Crashes


@dataclass(frozen=True, slots=True)
class Orders:
    """Machines to stay off, and Tasks that are to be failed instead of run."""

    avoid_nodes: tuple[str, ...] = ()
    poison: tuple[Crashes, ...] = ()


NO_ORDERS: Final = Orders()
