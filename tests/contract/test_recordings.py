"""Every recorded case is replayed as a test of its own, or says why it is not."""

import pytest

from .recordings import cases
from .replay import Replay
from .session import Outcome, Session, Target
from .sessions import NOT_REPLAYED, SESSIONS

_SESSION_OF = {case.name: session for session in SESSIONS for case in session.cases()}
_OUTCOMES = pytest.StashKey[dict[tuple[str, str], dict[str, Outcome]]]()


@pytest.fixture
def outcomes(request: pytest.FixtureRequest) -> dict[tuple[str, str], dict[str, Outcome]]:
    """What became of the sessions that were replayed so far."""
    return request.config.stash.setdefault(_OUTCOMES, {})


@pytest.mark.parametrize("name", _SESSION_OF)
def test_case(
    name: str, target: Target, outcomes: dict[tuple[str, str], dict[str, Outcome]]
) -> None:
    """The server does what was recorded; the first test of a session replays it as a whole."""
    session: Session = _SESSION_OF[name]
    key = (target.url, session.name)
    if key not in outcomes:
        outcomes[key] = Replay(target, session).run()
    outcome = outcomes[key][name]
    if outcome.skipped:
        pytest.skip(outcome.skipped)
    if outcome.error:
        raise outcome.error


def test_without_an_admin_port_nothing_is_left_behind(target: Target) -> None:
    """What the suite does to a real server, done to the simulator."""
    if target.admin is None:
        pytest.skip("this is a real server: there is no admin port to look through")
    bare = Target(target.url, target.identifier, target.key)
    target.admin.reset()
    for session in SESSIONS[:3]:
        outcomes = Replay(bare, session).run()
        assert [o.error for o in outcomes.values() if o.error] == []
        assert any(not outcome.skipped for outcome in outcomes.values())
    assert target.admin.managers() == []
    assert target.admin.services() == []


def test_every_case_is_replayed_or_excused() -> None:
    replayed = [case.name for session in SESSIONS for case in session.cases()]
    assert sorted([*replayed, *NOT_REPLAYED]) == sorted(cases())


def test_excuses_are_few_and_give_a_reason() -> None:
    assert len(NOT_REPLAYED) <= 3
    assert all(len(reason) > 20 for reason in NOT_REPLAYED.values())
