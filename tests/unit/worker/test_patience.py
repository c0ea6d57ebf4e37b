"""Asking a server again that is away."""

import itertools
import logging

import pytest

from computepool_api.errors import CredentialsRefused, Unavailable
from computepool_worker.logs import EventLog
from computepool_worker.patience import Patience, patiently

LOG = EventLog(logging.getLogger("test.patience"))
QUICK = Patience(retries=3, base=1.001, longest=0.001)


@pytest.fixture(autouse=True)
def _no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Patience.pauses, "__defaults__", (lambda: 0.0,))


def test_the_waits_grow_up_to_the_longest() -> None:
    patience = Patience(retries=6, base=2.0, longest=20.0)
    assert list(patience.pauses()) == [2, 4, 8, 16, 20, 20]
    assert list(patience.pauses(lambda: 0.5)) == [3, 5, 9, 17, 21, 21]
    assert list(Patience(0, 2.0, 60.0).pauses()) == []


def test_they_may_go_on_for_ever() -> None:
    for_ever = Patience(retries=-1, base=1e6, longest=60.0)
    assert list(itertools.islice(for_ever.pauses(), 5000)) == [60.0] * 5000


class Server:
    def __init__(self, away: int, error: Exception | None = None) -> None:
        self.asked = 0
        self._away = away
        self._error = error or Unavailable("claim", status=503, detail="away")

    async def ask(self) -> str:
        self.asked += 1
        if self.asked <= self._away:
            raise self._error
        return "well"


@pytest.mark.parametrize("away", [0, 1, 3])
async def test_a_server_that_comes_back_is_waited_for(away: int) -> None:
    server = Server(away)
    assert await patiently(server.ask, QUICK, LOG) == "well"
    assert server.asked == away + 1


async def test_one_that_stays_away_is_not_waited_for_any_longer() -> None:
    server = Server(100)
    with pytest.raises(Unavailable):
        await patiently(server.ask, QUICK, LOG)
    assert server.asked == 4


async def test_what_does_not_pass_is_not_waited_for() -> None:
    server = Server(100, CredentialsRefused("token", status=401, detail="no"))
    with pytest.raises(CredentialsRefused):
        await patiently(server.ask, QUICK, LOG)
    assert server.asked == 1
