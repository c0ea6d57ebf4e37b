"""One simulated server: its state, its clock, its faults and its records, put together."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from .audit import AuditLog
from .clock import VirtualClock
from .faults import FaultBoard
from .identifiers import random_ids
from .records import Identity
from .settings import Settings
from .store import Store


@dataclass(frozen=True, slots=True)
class Options:
    """How a simulated server starts. `seed` makes ids, draws and faults repeatable."""

    identities: Sequence[Identity] = ()
    settings: Settings = field(default_factory=Settings)
    seed: int | None = None
    secret: str | None = None
    prefix: str = ""


class Simulator:
    """What the API and the admin port share."""

    def __init__(self, options: Options | None = None) -> None:
        """Start empty but for the identities."""
        self.options = options or Options()
        self.reset()

    def reset(self) -> None:
        """Forget everything and start again as at first."""
        options = self.options
        self.clock = VirtualClock()
        self.audit = AuditLog()
        self.faults = FaultBoard(random.Random(options.seed))
        self.new_id = random_ids(options.seed)
        self.store = Store(
            clock=self.clock.now,
            new_id=self.new_id,
            source=random.Random(options.seed),
            settings=options.settings,
            secret=options.secret,
        )
        for identity in options.identities:
            self.store.identities[identity.identifier] = replace(identity)
