"""Which services are deregistered, and when: certainly dead, and nothing of theirs on its way."""

from dataclasses import dataclass, replace
from datetime import datetime

import pytest
from unit.operator.builders import (
    HOUR,
    MINUTE,
    NOON,
    SECOND,
    PlannedPool,
    make_service_id,
    make_worker,
    ok,
    table,
)

from computepool_api.models import SkipInstruction
from computepool_api.outcomes import Outcome
from computepool_operator.plan import Unknown
from computepool_operator.reaping import (
    ENDED_OF_LATE,
    PUSH_SETTLES,
    UNKNOWN_FOR,
    Fleet,
    Reaping,
    ended_services,
    services_to_reap,
)
from computepool_operator.reasons import Reason
from computepool_operator.workers import Departed, Worker, WorkerState

NAME = "a100-x"
SERVICE = make_service_id(NAME)
PREFIX = "a100_"
LATER = NOON + MINUTE

assert (PUSH_SETTLES, UNKNOWN_FOR, ENDED_OF_LATE) == (MINUTE, 5 * MINUTE, 15 * MINUTE)


@dataclass(frozen=True)
class Case:
    """The service of `a100-x` is registered and this is seen from noon on: it is reaped or not."""

    reaped: bool
    at: datetime = NOON
    workers: tuple[Worker, ...] = ()
    departed: tuple[Departed, ...] = ()
    service: str = SERVICE
    prefix: str = PREFIX
    registered: bool = True


def ended(outcome: Outcome | None, state: str = "Failed") -> tuple[Worker, ...]:
    return (make_worker(state, NAME, outcome=outcome, finished_at=NOON),)


def given_up() -> tuple[Worker, ...]:
    """Its pod has been said to have failed while its container ran, with a grace of a minute."""
    return tuple(replace(worker, may_work_for=MINUTE) for worker in ended(None))


def gone(*, ended: bool, sending: bool = False) -> tuple[Departed, ...]:
    return (Departed(SERVICE, NOON, ended=ended, sending=sending, grace=MINUTE),)


REAPED = {
    "a worker that ended: at once": Case(True, workers=ended(None)),
    "one that was killed while it held a Task: at once": Case(True, workers=ended(Outcome.HOLDING)),
    "one that crashed: at once": Case(True, workers=ended(Outcome.TASK_CRASHED)),
    "one that succeeded, should it have left its registration: at once": Case(
        True, workers=ended(Outcome.DONE, "Succeeded")
    ),
    "one that was sending a result: not at once": Case(False, workers=ended(Outcome.PUSHING)),
    "one that was sending a result: not before a minute": Case(
        False, LATER - SECOND, ended(Outcome.PUSHING)
    ),
    "one that was sending a result: a minute later": Case(True, LATER, ended(Outcome.PUSHING)),
    "one that got no answer to its result: not before a minute": Case(
        False, LATER - SECOND, ended(Outcome.PUSH_AMBIGUOUS)
    ),
    "one that got no answer to its result: a minute later": Case(
        True, LATER, ended(Outcome.PUSH_AMBIGUOUS)
    ),
    "one that the control plane gave up: not before its grace and a minute": Case(
        False, NOON + 2 * MINUTE - SECOND, given_up()
    ),
    "one that the control plane gave up: its grace and a minute later": Case(
        True, NOON + 2 * MINUTE, given_up()
    ),
    "one whose pod outlives it: at once": Case(
        True, workers=(make_worker("Lingering", NAME, outcome=Outcome.HOLDING),)
    ),
    "one whose pod outlives it and is being removed: at once": Case(
        True, workers=(make_worker("Ending", NAME, lingering_end=WorkerState.FAILED),)
    ),
    "one whose pod outlives it, and that was sending a result: not before a minute": Case(
        False, LATER - SECOND, (make_worker("Lingering", NAME, outcome=Outcome.PUSHING),)
    ),
    **{
        f"one that is {state}: never": Case(
            False, NOON + 1000 * MINUTE, (make_worker(state, NAME),)
        )
        for state in ("Starting", "Running", "Ending")
    },
    "one that is Running, though a pod of it has gone": Case(
        False, NOON + 10 * MINUTE, (make_worker("Running", NAME),), gone(ended=True)
    ),
    "a pod that is gone and had ended: at once": Case(True, departed=gone(ended=True)),
    "a pod that is gone and was sending a result: not before a minute": Case(
        False, LATER - SECOND, departed=gone(ended=True, sending=True)
    ),
    "a pod that is gone and was sending a result: a minute later": Case(
        True, LATER, departed=gone(ended=True, sending=True)
    ),
    "a pod that was removed while it ran: not before its grace and a minute": Case(
        False, NOON + 2 * MINUTE - SECOND, departed=gone(ended=False)
    ),
    "a pod that was removed while it ran: its grace and a minute later": Case(
        True, NOON + 2 * MINUTE, departed=gone(ended=False)
    ),
    "an unknown service of ours: not when it is first seen": Case(False),
    "an unknown service of ours: not before five minutes": Case(False, NOON + 5 * MINUTE - SECOND),
    "an unknown service of ours: five minutes later": Case(True, NOON + 5 * MINUTE),
    "a service of another form of name: never": Case(False, NOON + 9 * MINUTE, service="a100_x"),
    "somebody else's service: never": Case(
        False, NOON + 9 * MINUTE, service=make_service_id("b200-x")
    ),
    "an unknown one, where a pool's own can't be told: never": Case(
        False, NOON + 9 * MINUTE, prefix=""
    ),
    "none that is not registered": Case(False, workers=ended(None), registered=False),
}


def known(case: Case) -> Fleet:
    return Fleet(case.workers, case.departed, prefix=case.prefix)


@table(REAPED)
def test_reaped_is(case: Case) -> None:
    registered = [case.service] if case.registered else []
    first = services_to_reap(known(case), registered, {}, NOON)
    then = services_to_reap(known(case), registered, dict(first.left_since), case.at)
    assert then.reap == ((case.service,) if case.reaped else ())
    assert then.settling is (bool(then.left_since) and not case.reaped)


def test_a_node_s_clock_does_not_matter() -> None:
    for wrong in (-HOUR, HOUR):
        dead = (make_worker("Failed", NAME, outcome=Outcome.HOLDING, finished_at=NOON + wrong),)
        assert services_to_reap(Fleet(dead), [SERVICE], {}, NOON).reap == (SERVICE,)
        sent = (make_worker("Failed", NAME, outcome=Outcome.PUSHING, finished_at=NOON + wrong),)
        first = services_to_reap(Fleet(sent), [SERVICE], {}, NOON)
        assert first.reap == ()
        left = dict(first.left_since)
        assert services_to_reap(Fleet(sent), [SERVICE], left, LATER).reap == (SERVICE,)


LISTED_NOWHERE = {
    "one that was killed while it held a Task: at once": Case(True, workers=ended(Outcome.HOLDING)),
    "one that crashed: at once": Case(True, workers=ended(Outcome.TASK_CRASHED)),
    "one that succeeded, and so deregistered": Case(
        False, workers=ended(Outcome.DONE, "Succeeded")
    ),
    "one that was sending a result: not before a minute": Case(
        False, LATER - SECOND, ended(Outcome.PUSHING)
    ),
    "one that was sending a result: a minute later": Case(True, LATER, ended(Outcome.PUSHING)),
    "one that is Running": Case(False, workers=(make_worker("Running", NAME),)),
    "one that is Running, though a pod of it has gone": Case(
        False, NOON + 10 * MINUTE, (make_worker("Running", NAME),), gone(ended=True)
    ),
    "a pod that is gone and had ended: at once": Case(True, departed=gone(ended=True)),
    "a pod that was removed while it ran: not before its grace and a minute": Case(
        False, NOON + 2 * MINUTE - SECOND, departed=gone(ended=False)
    ),
    "not for ever": Case(False, NOON + 15 * MINUTE, ended(Outcome.HOLDING)),
    "almost a quarter of an hour long": Case(
        True, NOON + 15 * MINUTE - SECOND, ended(Outcome.HOLDING)
    ),
}


@table(LISTED_NOWHERE)
def test_deregistered_without_a_list_is(case: Case) -> None:
    bad = {worker.name for worker in case.workers if worker.state is WorkerState.FAILED}
    first = ended_services(known(case), bad, {}, NOON)
    then = ended_services(known(case), (), dict(first.left_since), case.at)
    assert (then if case.at > NOON else first).reap == ((case.service,) if case.reaped else ())


def test_what_ended_before_the_server_stopped_listing_is_left_alone() -> None:
    assert ended_services(Fleet(ended(Outcome.HOLDING)), (), {}, NOON) == Reaping()


class TestUnknown:
    """Services under our manager that belong to no pod we know of."""

    NOBODY = Fleet(prefix=PREFIX)

    def test_the_first_sight_is_remembered(self) -> None:
        first = services_to_reap(self.NOBODY, [SERVICE], {}, NOON)
        then = services_to_reap(self.NOBODY, [SERVICE], dict(first.left_since), LATER)
        assert then.left_since == ((SERVICE, NOON),)

    def test_it_is_forgotten_when_it_goes(self) -> None:
        assert services_to_reap(self.NOBODY, [], {SERVICE: NOON}, LATER) == Reaping()

    def test_it_is_forgotten_when_its_pod_is_seen_after_all(self) -> None:
        alive = Fleet([make_worker("Running", NAME)], prefix=PREFIX)
        assert services_to_reap(alive, [SERVICE], {SERVICE: NOON}, LATER) == Reaping()

    def test_others_are_not_remembered(self) -> None:
        strangers = [make_service_id("b200-x"), "a.name.of.another.form"]
        assert services_to_reap(self.NOBODY, strangers, {}, NOON) == Reaping()


class TestPlanned:
    """The same through `plan`, whose memory and instruction it depends on."""

    @pytest.fixture
    def pool(self) -> PlannedPool:
        return PlannedPool(service_prefix=PREFIX)

    def test_an_unknown_service_is_reaped_after_five_minutes(self, pool: PlannedPool) -> None:
        for _ in range(5):
            assert pool.cycle(ok(0, [SERVICE]), after=MINUTE).reap == ()
        assert pool.cycle(ok(0, [SERVICE]), after=MINUTE).reap == (SERVICE,)

    def test_a_departed_one_at_once(self, pool: PlannedPool) -> None:
        pool.departed = gone(ended=True)
        assert pool.cycle(ok(0, [SERVICE])).reap == (SERVICE,)

    def test_the_server_s_skip_does_not_hinder_it(self, pool: PlannedPool) -> None:
        pool.departed = gone(ended=True)
        assert pool.cycle(SkipInstruction((SERVICE,))).reap == (SERVICE,)

    def test_time_in_which_the_server_did_not_answer_counts(self, pool: PlannedPool) -> None:
        pool.cycle(ok(0, [SERVICE]))
        for _ in range(3):
            silence = Unknown(Reason.COMPUTE_API_UNAVAILABLE, "down")
            assert pool.cycle(silence, after=MINUTE).reap == ()
        assert pool.cycle(ok(0, [SERVICE]), after=2 * MINUTE).reap == (SERVICE,)
