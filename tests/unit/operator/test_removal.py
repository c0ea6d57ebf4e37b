"""The way out of a deleted pool: who is stopped, who may finish, and when all have gone."""

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from unit.operator.builders import HOUR, NOON, fleet, make_spec, table

from computepool_operator.reasons import Reason
from computepool_operator.removal import Removal, plan_removal
from computepool_operator.workers import Worker, WorkerState

ALL = fleet(pending=1, starting=1, running=2, ending=1, succeeded=1, failed=1)
STOP = {"deletion_policy": "Stop"}


@dataclass(frozen=True)
class Case:
    workers: tuple[Worker, ...]
    stopped: set[str]
    done: bool = False
    reason: Reason = Reason.DRAINING
    spec: dict[str, Any] = field(default_factory=dict)
    ago: timedelta = timedelta(minutes=5)

    def plan(self) -> Removal:
        return plan_removal(make_spec(**self.spec), self.workers, NOON - self.ago, NOON)


STEPS = {
    "a pool without workers is done": Case((), set(), done=True, reason=Reason.STOPPING),
    "finished workers do not hold it up": Case(
        fleet(succeeded=3, failed=2), set(), done=True, reason=Reason.STOPPING
    ),
    "Drain stops those that have claimed nothing": Case(ALL, {"pending-0", "starting-0"}),
    "Drain removes pods that outlive their workers": Case(
        fleet(lingering=1, running=1), {"lingering-0"}
    ),
    "Stop removes them too": Case(
        fleet(lingering=1, ending=1), {"lingering-0"}, reason=Reason.STOPPING, spec=STOP
    ),
    "Drain lets running workers finish, however long": Case(
        fleet(running=2), set(), ago=500 * HOUR
    ),
    "Drain waits for those on their way out": Case(fleet(ending=2), set()),
    "Drain becomes Stop when its time is up": Case(
        ALL,
        {"pending-0", "starting-0", "running-0", "running-1"},
        reason=Reason.STOPPING,
        spec={"drain_timeout": "1h"},
        ago=HOUR,
    ),
    "Drain is Drain until then": Case(
        ALL, {"pending-0", "starting-0"}, spec={"drain_timeout": "1h"}, ago=HOUR / 2
    ),
    "Stop ends all that have not ended": Case(
        ALL,
        {"pending-0", "starting-0", "running-0", "running-1"},
        reason=Reason.STOPPING,
        spec=STOP,
    ),
    "Stop tells nobody twice": Case(fleet(ending=3), set(), reason=Reason.STOPPING, spec=STOP),
}


@table(STEPS)
def test_step(case: Case) -> None:
    removal = case.plan()
    assert {worker.name for worker in removal.stop} == case.stopped
    assert removal.done is case.done
    assert removal.verdict.reason is case.reason


def test_the_message_says_who_is_waited_for_and_until_when() -> None:
    removal = Case(fleet(running=2), set(), spec={"drain_timeout": "1h"}).plan()
    assert removal.verdict.message == (
        "2 running workers finish their Tasks first "
        "(spec.deletionPolicy is Drain, until 2026-03-01 12:55:00 UTC)."
    )


def test_those_who_do_not_go_are_named_with_their_nodes() -> None:
    ending = fleet(ending=7)
    message = Case(ending, set()).plan().verdict.message
    assert message == (
        "7 workers have been told to go and have not ended: "
        + ", ".join(f"pod ending-{number}-pod on node node-1" for number in range(5))
        + " and 2 more (spec.deletionPolicy is Drain)."
    )
    unseen = replace(ending[0], pod=None, node=None)
    assert "not ended: Job ending-0." in Case((unseen,), set(), spec=STOP).plan().verdict.message
    unbound = replace(ending[0], node=None)
    assert "not ended: pod ending-0-pod (" in Case((unbound,), set()).plan().verdict.message


def test_workers_that_have_claimed_nothing_are_not_said_to_finish_any_task() -> None:
    message = Case(fleet(pending=1, starting=2), set()).plan().verdict.message
    assert message.startswith("3 workers that have claimed nothing are being stopped")


def test_nothing_is_stopped_that_has_ended() -> None:
    for policy in ("Drain", "Stop"):
        removal = Case(ALL, set(), spec={"deletion_policy": policy}).plan()
        assert all(worker.state is not WorkerState.ENDING for worker in removal.stop)
        assert not any(worker.finished for worker in removal.stop)
