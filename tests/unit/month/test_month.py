"""Some days of a simulated month; and that it notices when the planner does wrong."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from computepool_api.ids import ComputeServiceID
from computepool_operator import judging, manager, reaping
from computepool_operator.plan import Plan, plan
from month.report import report
from month.simulation import Month
from month.timeline import Violation


def test_a_day_of_trouble() -> None:
    month = Month(seed=1, days=1)
    summary = month.run()
    print(report(summary, 0.0))
    assert summary.tasks.keys() <= {"complete", "error", "never ready"}
    assert summary.restarts
    assert summary.account.wasted < 0.01 * summary.account.used


def test_equal_seeds_give_equal_days() -> None:
    assert Month(seed=3, days=0.3).run() == Month(seed=3, days=0.3).run()


@pytest.mark.parametrize("max_tasks", [1, 3])
def test_without_trouble_nothing_is_lost_and_workers_come_at_once(max_tasks: int) -> None:
    summary = Month(seed=2, days=1, max_tasks=max_tasks, fair=True).run()
    account = summary.account
    assert account.outage < 60, "until the operator has started"
    assert account.idle < 0.01 * account.used
    assert account.overhead < 0.02 * account.used


def _creates_one_more(*arguments: Any) -> Plan:
    decided = plan(*arguments)
    return replace(decided, create_workers=decided.create_workers + (decided.create_workers > 0))


def _reaps_everything(*arguments: Any) -> Plan:
    decided = plan(*arguments)
    services = getattr(arguments[1].instruction, "compute_service_ids", ())
    reap = tuple(ComputeServiceID.parse(service) for service in services)
    return replace(decided, reap=reap)


def _reaps_nothing(*arguments: Any) -> Plan:
    return replace(plan(*arguments), reap=())


@pytest.mark.parametrize(
    ("wrong", "number"),
    [(_creates_one_more, "[12]"), (_reaps_everything, "4"), (_reaps_nothing, "4")],
)
def test_a_wrong_plan_is_noticed(monkeypatch: pytest.MonkeyPatch, wrong: Any, number: str) -> None:
    monkeypatch.setattr(manager, "plan", wrong)
    with pytest.raises(Violation, match=f"^{number}: "):
        Month(seed=1, days=3).run()


def test_a_reaper_that_does_not_wait_for_pushes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaping, "PUSH_SETTLES", timedelta(0))
    month = Month(seed=1, days=3)
    month.conditions.push_deaths = 0.2
    with pytest.raises(Violation, match=r"^5: "):
        month.run()


def test_a_poison_task_that_nobody_counts_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def forgets(_worker: Any, _task: Any, memory: Any, _now: Any) -> Any:
        return memory

    monkeypatch.setattr(judging, "_count_crash", forgets)
    with pytest.raises(Violation, match=r"^7: "):
        Month(seed=6, days=0.5).run()
