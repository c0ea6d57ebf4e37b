"""Everything is killed, deleted and cut off at random while Tasks flow; nothing is lost or doubled.

SOAK_MINUTES says how long (2), SOAK_SEED repeats an order of events.
"""

from __future__ import annotations

import os
import random

import pytest

from e2e.scene import Scene
from soak.soaking import LONGEST_DRAIN, soak, told
from testcluster.fixtures import reporter

SECONDS = 60.0 * float(os.environ.get("SOAK_MINUTES", "2"))
SEED = int(os.environ.get("SOAK_SEED", random.SystemRandom().randrange(10**6)))

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(SECONDS + 2 * LONGEST_DRAIN + 300)]


def test_a_soak_loses_and_doubles_nothing(scene: Scene, request: pytest.FixtureRequest) -> None:
    report = reporter(request.config)
    report(f"soak with SOAK_SEED={SEED}")

    soaked = soak(scene, SECONDS, SEED, report)

    report(told(soaked, SECONDS, SEED))
    assert soaked.wrongs == [], "\n".join([*soaked.wrongs, "", *soaked.story])
    assert soaked.done.total() > SECONDS / 10
