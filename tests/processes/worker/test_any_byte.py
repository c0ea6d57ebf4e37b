"""A push is interrupted at any byte: one entry at the end, and nothing computed twice."""

import signal
from collections.abc import Callable

import pytest
from processes.worker.cutting import Cut, cutting_proxy
from processes.worker.harness import Pool, Worker, until

from computepool_api.outcomes import Outcome

# The share of the request that arrives, and of the answer.
PLACES = [
    (0.0, 0.0),
    (0.01, 0.0),
    (0.3, 0.0),
    (0.999, 0.0),
    (1.0, 0.0),
    (1.0, 0.5),
    (1.0, 0.99),
]


def interrupted_by(number: signal.Signals) -> Callable[[Worker], None]:
    return lambda worker: worker.signal(number)


@pytest.mark.parametrize(
    "interrupt",
    [lambda _: None, interrupted_by(signal.SIGTERM), interrupted_by(signal.SIGKILL)],
    ids=["network", "SIGTERM", "SIGKILL"],
)
@pytest.mark.parametrize(("request_share", "answer_share"), PLACES)
def test_at_any_byte(
    pool: Pool,
    request_share: float,
    answer_share: float,
    interrupt: Callable[[Worker], None],
) -> None:
    (task,) = pool.admin.add_tasks(1)
    spool = str(pool.directory / "spool")
    cut = Cut(request_share, answer_share)
    with cutting_proxy(pool.simulator.url, cut) as url:
        first = pool.worker(api_url=url, spool_dir=spool, termination_grace=12, push_pause=0.3)
        cut.then = lambda: interrupt(first)
        first.start()
        assert cut.struck is not None
        struck = cut.struck
        until(struck.is_set, what="the push was cut")
        ended = first.wait()
    stored = len(pool.admin.results(task))
    assert stored == (request_share == 1 or ended is Outcome.DONE)
    # What the operator does for a pod that is gone.
    pool.forget_services()
    second = pool.worker(spool_dir=spool)
    second.run()
    view = pool.admin.task(task)
    assert (view.status, len(view.results)) == ("complete", 1)
    computed = first.logged("task.executing") + second.logged("task.executing")
    assert len(computed) == 1
    assert pool.admin.services() == []
