from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from computepool_api.outcomes import Outcome
from computepool_worker.steps import (
    Claim,
    Leave,
    Limits,
    Pause,
    Progress,
    Run,
    Sleep,
    Step,
    next_step,
    pause_after_ambiguous_push,
    pause_before_next_life,
)

NO_LIMITS = Limits(claim_limit=1, max_tasks=None, max_time=None)
STANDING = replace(NO_LIMITS, ephemeral=False)
BOUNDED = replace(STANDING, max_tasks=4, max_time=1000.0)
TOO_MANY = Progress(failed=3, failed_at=(100, 200, 300), elapsed=400)


@pytest.mark.parametrize(
    ("story", "progress", "limits", "step"),
    [
        ("a new worker claims", Progress(), NO_LIMITS, Claim(1)),
        ("as many as it may at once", Progress(), Limits(4, None, None), Claim(4)),
        ("but no more than it may in all", Progress(), Limits(4, 2, None), Claim(2)),
        ("less those it has done", Progress(done=1, failed=1), Limits(4, 3, None), Claim(1)),
        ("what is in hand is run", Progress(held=("a", "b")), NO_LIMITS, Run("a")),
        (
            "nothing to claim at first",
            Progress(found_nothing=True),
            NO_LIMITS,
            Leave(Outcome.NOTHING_TO_DO),
        ),
        (
            "nothing to claim after work",
            Progress(done=2, found_nothing=True),
            NO_LIMITS,
            Leave(Outcome.DONE),
        ),
        ("a failed Task counts", Progress(failed=1), Limits(1, 1, None), Leave(Outcome.DONE)),
        ("all Tasks done", Progress(done=3), Limits(1, 3, None), Leave(Outcome.DONE)),
        ("time is up", Progress(done=1, elapsed=60), Limits(1, None, 60), Leave(Outcome.DONE)),
        ("time is not up", Progress(done=1, elapsed=59), Limits(1, None, 60), Claim(1)),
        (
            "time is up before any claim",
            Progress(elapsed=61),
            Limits(1, None, 60),
            Leave(Outcome.NOTHING_TO_DO),
        ),
        (
            "time is up with a first Task in hand",
            Progress(held=("a",), elapsed=61),
            Limits(2, None, 60),
            Run("a"),
        ),
        (
            "time is up with another in hand",
            Progress(held=("b",), done=1, elapsed=61),
            Limits(2, None, 60),
            Leave(Outcome.DONE),
        ),
        (
            "an unusable Task is only given back by leaving",
            Progress(unusable="a"),
            NO_LIMITS,
            Leave(Outcome.TASK_UNUSABLE),
        ),
        (
            "after the others in hand are run",
            Progress(held=("b",), unusable="a"),
            NO_LIMITS,
            Run("b"),
        ),
        (
            "a standing one sleeps",
            Progress(found_nothing=True),
            STANDING,
            Sleep(30, "nothing to claim"),
        ),
        ("and asks again", Progress(done=2), STANDING, Claim(1)),
        (
            "it sleeps deeply when denied",
            Progress(found_nothing=True, denied=True),
            STANDING,
            Sleep(300, "denied"),
        ),
        (
            "a bounded one sleeps no longer than it may live",
            Progress(found_nothing=True, elapsed=990),
            BOUNDED,
            Sleep(10, "nothing to claim"),
        ),
        ("and leaves then", Progress(done=1, elapsed=1000), BOUNDED, Leave(Outcome.DONE)),
        ("it leaves when it has done its Tasks", Progress(done=4), BOUNDED, Leave(Outcome.DONE)),
        (
            "a standing one leaves for an unusable Task too: nothing else gives it back",
            Progress(unusable="a"),
            STANDING,
            Leave(Outcome.TASK_UNUSABLE),
        ),
        ("two failures are allowed", replace(TOO_MANY, failed_at=(200, 300)), NO_LIMITS, Claim(1)),
        (
            "three are enough",
            TOO_MANY,
            NO_LIMITS,
            Leave(Outcome.DONE, "one failure more would be too many"),
        ),
        (
            "also with Tasks in hand",
            replace(TOO_MANY, held=("a",)),
            NO_LIMITS,
            Leave(Outcome.DONE, "one failure more would be too many"),
        ),
        (
            "an unusable Task is told before that",
            replace(TOO_MANY, unusable="a", held=("b",)),
            NO_LIMITS,
            Leave(Outcome.TASK_UNUSABLE),
        ),
        (
            "a standing one waits until the first is forgiven",
            TOO_MANY,
            STANDING,
            Sleep(300, "failures"),
        ),
        (
            "also with Tasks in hand, which it gives back before",
            replace(TOO_MANY, held=("a",)),
            STANDING,
            Sleep(300, "failures"),
        ),
        ("what is forgiven does not count", replace(TOO_MANY, elapsed=700), STANDING, Claim(1)),
        (
            "nor do failures before the last three",
            replace(TOO_MANY, failed_at=(100, 200, 300, 650), elapsed=800),
            STANDING,
            Claim(1),
        ),
        (
            "a service that has finished does not wait for that",
            replace(TOO_MANY, failed=4),
            BOUNDED,
            Leave(Outcome.DONE),
        ),
        (
            "denied",
            Progress(found_nothing=True, denied=True),
            NO_LIMITS,
            Leave(
                Outcome.DENIED,
                "the server denies this service Tasks: too many of its Tasks "
                "failed within a short time",
            ),
        ),
    ],
)
def test_next_step(story: str, progress: Progress, limits: Limits, step: Step) -> None:
    assert next_step(progress, limits) == step


@given(
    tasks=st.integers(0, 12),
    claim_limit=st.integers(1, 5),
    max_tasks=st.none() | st.integers(1, 8),
    max_time=st.none() | st.floats(0.5, 20),
    ok=st.lists(st.booleans(), min_size=12, max_size=12),
)
def test_every_life_ends_within_its_limits(
    tasks: int, claim_limit: int, max_tasks: int | None, max_time: float | None, ok: list[bool]
) -> None:
    limits = Limits(claim_limit, max_tasks, max_time)
    waiting = [str(number) for number in range(tasks)]
    held: list[str] = []
    done = failed = claims = 0
    found_nothing = False
    for elapsed in range(100):
        progress = Progress(
            held=tuple(held), done=done, failed=failed, found_nothing=found_nothing,
            elapsed=float(elapsed),
        )  # fmt: skip
        match next_step(progress, limits):
            case Claim(count):
                assert 1 <= count <= claim_limit
                claims += 1
                held, waiting = waiting[:count], waiting[count:]
                found_nothing = not held
            case Run(task):
                held.remove(task)
                done, failed = done + ok[int(task)], failed + (not ok[int(task)])
            case Leave(outcome):
                break
    else:
        raise AssertionError("it never leaves")
    assert max_tasks is None or done + failed <= max_tasks
    assert (outcome is Outcome.DONE) == (done + failed > 0)
    assert claims <= tasks + 1
    if max_time is None:
        assert not held


@pytest.mark.parametrize(
    ("story", "killed_at", "pause"),
    [
        ("nobody hurries", None, Pause(until=160, deregister=True)),
        ("there is time enough", 160, Pause(until=160, deregister=True)),
        ("there is not", 150, Pause(until=150, deregister=False)),
        ("there is none at all", 90, Pause(until=90, deregister=False)),
    ],
)
def test_the_pause_after_an_ambiguous_push(
    story: str, killed_at: float | None, pause: Pause
) -> None:
    assert pause_after_ambiguous_push(since=100, pause=60, killed_at=killed_at) == pause


@pytest.mark.parametrize(
    ("outcome", "troubles", "pause"),
    [
        (Outcome.TASK_UNUSABLE, 1, 30),
        (Outcome.TASK_CRASHED, 2, 60),
        (Outcome.PUSH_AMBIGUOUS, 4, 240),
        (Outcome.REGISTRATION_LOST, 5, 300),
        (Outcome.API_UNREACHABLE, 10_000, 300),
        (Outcome.DEVICE_UNFIT, 1, None),
        (Outcome.CREDENTIALS_REFUSED, 1, None),
        (Outcome.INTERNAL_ERROR, 1, None),
        (Outcome.TERMINATED, 1, None),
    ],
)
def test_when_a_standing_service_registers_anew(
    outcome: Outcome, troubles: int, pause: float | None
) -> None:
    assert pause_before_next_life(outcome, troubles, STANDING) == pause
