"""What the end of a worker leaves behind: quarantined nodes, suspect Tasks, failures in a row."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from unit.operator.builders import HOUR, MINUTE, NOON, SECOND, make_spec, make_worker, ok

from computepool_api.outcomes import Outcome
from computepool_operator.judging import (
    CRASHES_FORGOTTEN,
    LONGEST_BACKOFF,
    SUSPECTS_KEPT,
    count_failure,
    forgive,
    judge,
    pause,
)
from computepool_operator.memory import Backoff, Crashes, Halt, Memory, Quarantine
from computepool_operator.pool import PoolSpec
from computepool_operator.workers import Ending, Worker, WorkerState

FRESH = Memory(judged=frozenset())
DAY = 24 * HOUR
RETRY = timedelta(minutes=10)
ONE, OTHER = "Task-1-org-campaign-project", "Task-2-org-campaign-project"

SPEC = make_spec(
    failure_policy={
        "max_consecutive_failures": 3,
        "node_quarantine": HOUR,
        "task_crash_limit": 3,
        "retry_after": RETRY,
    }
)


def judged(memory: Memory, *workers: Worker, at: datetime = NOON, spec: PoolSpec = SPEC) -> Memory:
    return judge(spec, workers, ok(9), memory, at)


def unfit(name: str, node: str = "node-1") -> Worker:
    return make_worker("Failed", name, outcome=Outcome.DEVICE_UNFIT, node=node)


def killed(name: str, task: str | None = ONE) -> Worker:
    """A worker that died without a word while it held a Task."""
    ending = Ending(reason="OOMKilled", exit_code=137)
    return make_worker("Failed", name, outcome=Outcome.HOLDING, task=task, ending=ending)


def totals(memory: Memory) -> tuple[int, int]:
    return memory.finished(WorkerState.SUCCEEDED), memory.finished(WorkerState.FAILED)


def done(name: str) -> Worker:
    return make_worker("Succeeded", name, outcome=Outcome.DONE)


class TestQuarantine:
    def test_a_node_that_is_to_blame_is_quarantined(self) -> None:
        (entry,) = judged(FRESH, unfit("w0")).quarantined
        assert (entry.node, entry.since, entry.until) == ("node-1", NOON, NOON + HOUR)
        assert entry.reason == "w0-pod on node-1: DeviceUnfit"

    @pytest.mark.parametrize("reason", ["OutOfnvidia.com/gpu", "UnexpectedAdmissionError"])
    def test_so_is_one_whose_kubelet_rejects_pods(self, reason: str) -> None:
        rejected = make_worker("Failed", "w0", ending=Ending(pod_reason=reason))
        (entry,) = judged(FRESH, rejected).quarantined
        assert entry.node == "node-1"

    @pytest.mark.parametrize(
        "outcome", [outcome for outcome in Outcome if outcome is not Outcome.DEVICE_UNFIT]
    )
    def test_nothing_else_quarantines(self, outcome: Outcome) -> None:
        worker = make_worker("Failed", "w0", outcome=outcome, task=ONE)
        assert judged(FRESH, worker).quarantined == ()

    def test_one_node_is_no_failure_of_the_pool_however_many_workers_it_has(self) -> None:
        memory = judged(FRESH, *(unfit(f"w{n}") for n in range(5)))
        assert (memory.consecutive_failures, memory.failing) == (0, None)

    def test_one_node_after_the_other_is(self) -> None:
        # An image too new for every driver would try each node that an autoscaler adds.
        memory = judged(FRESH, *(unfit(f"w{n}", f"node-{n}") for n in range(3)))
        assert (memory.consecutive_failures, memory.failing) == (2, None)
        memory = judged(memory, unfit("w3", "node-3"))
        assert memory.consecutive_failures == 3
        assert memory.failing is not None
        assert len(memory.quarantined) == 4

    def test_but_not_where_workers_succeed_in_between(self) -> None:
        memory = FRESH
        for n in range(5):
            at = NOON + n * MINUTE
            memory = judged(memory, unfit(f"w{n}", f"node-{n}"), at=at)
            memory = judged(memory, done(f"d{n}"), at=at)
        assert (memory.consecutive_failures, memory.failing) == (0, None)
        assert len(memory.quarantined) == 5

    def test_where_the_node_is_not_known_it_is_one(self) -> None:
        memory = judged(FRESH, replace(unfit("w0"), node=None))
        assert (memory.consecutive_failures, memory.quarantined) == (1, ())

    def test_it_ends(self) -> None:
        memory = judged(FRESH, unfit("w0"))
        assert judged(memory, unfit("w0"), at=NOON + HOUR - SECOND).quarantined
        assert judged(memory, unfit("w0"), at=NOON + HOUR).quarantined == ()

    def test_the_newest_counts(self) -> None:
        memory = judged(FRESH, unfit("w0"))
        memory = judged(memory, unfit("w0"), unfit("w1"), at=NOON + 50 * MINUTE)
        (entry,) = memory.quarantined
        assert (entry.since, entry.until) == (NOON + 50 * MINUTE, NOON + 110 * MINUTE)
        assert entry.reason.startswith("w1-pod")

    def test_each_node_has_its_own(self) -> None:
        memory = judged(FRESH, unfit("w0"), unfit("w1", "node-2"))
        assert {entry.node for entry in memory.quarantined} == {"node-1", "node-2"}

    def test_what_the_operator_before_us_has_judged_quarantines_nothing(self) -> None:
        known = Memory(judged=frozenset({("w0", WorkerState.FAILED)}))
        assert judged(known, unfit("w0")).quarantined == ()

    def test_what_ended_while_no_operator_ran_does(self) -> None:
        known = Memory(judged=frozenset({("w0", WorkerState.FAILED)}))
        assert judged(known, unfit("w0"), unfit("w1", "node-2")).quarantined

    def test_an_end_is_judged_once_whatever_its_job_says_later(self) -> None:
        # The Job of a worker that succeeded fails when its pod is removed for lingering.
        known = Memory(judged=frozenset({("w0", WorkerState.SUCCEEDED)}))
        memory = judged(known, unfit("w0"))
        assert memory.quarantined == ()
        assert totals(memory) == (1, 0)
        assert totals(judged(memory)) == (1, 0)


class TestLingering:
    """A worker whose pod outlives it is judged by its own end, at once and once."""

    @pytest.mark.parametrize(
        ("outcome", "counted"), [(Outcome.DONE, (1, 0)), (Outcome.HOLDING, (0, 1))]
    )
    def test_it_is_counted_once_on_its_way_out(
        self, outcome: Outcome, counted: tuple[int, int]
    ) -> None:
        lingering = make_worker("Lingering", "w0", outcome=outcome, task=ONE)
        memory = judged(FRESH, lingering)
        assert totals(memory) == counted
        crashes = memory.crashes
        assert len(crashes) == counted[1]
        for later in (
            replace(lingering, state=WorkerState.ENDING),
            make_worker("Ending", "w0"),
            make_worker("Failed", "w0"),
        ):
            memory = judged(memory, later)
            assert totals(memory) == counted
            assert memory.crashes == crashes
        assert totals(judged(memory)) == counted


class TestCrashes:
    def test_a_task_that_takes_a_worker_down_is_remembered(self) -> None:
        (crashes,) = judged(FRESH, killed("w0")).crashes
        assert (crashes.task, crashes.number, crashes.last_at) == (ONE, 1, NOON)
        assert crashes.story == "w0-pod on node-1: OOMKilled exit code 137"

    def test_they_are_counted_for_each_task(self) -> None:
        memory = judged(FRESH, killed("w0"), killed("w1"), killed("w2", OTHER))
        assert {c.task: c.number for c in memory.crashes} == {ONE: 2, OTHER: 1}

    def test_they_are_counted_over_cycles(self) -> None:
        memory = FRESH
        for number in range(4):
            memory = judged(memory, killed(f"w{number}"), at=NOON + number * MINUTE)
        (crashes,) = memory.crashes
        assert (crashes.number, crashes.last_at) == (4, NOON + 3 * MINUTE)
        assert crashes.story.startswith("w3-pod")

    def test_they_are_forgotten_a_week_after_the_last(self) -> None:
        assert CRASHES_FORGOTTEN == 7 * DAY
        memory = judged(FRESH, killed("w0"))
        memory = judged(memory, killed("w0"), killed("w1"), at=NOON + DAY)
        assert judged(memory, at=NOON + 8 * DAY - SECOND).crashes
        assert judged(memory, at=NOON + 8 * DAY).crashes == ()

    def test_the_latest_are_remembered_as_many_as_the_status_holds(self) -> None:
        suspects = tuple(
            Crashes(f"Task-{n}-a-b-c", 3, NOON - n * SECOND, "killed") for n in range(SUSPECTS_KEPT)
        )
        memory = judged(replace(FRESH, crashes=suspects), killed("w0"))
        assert len(memory.crashes) == SUSPECTS_KEPT
        tasks = {crashes.task for crashes in memory.crashes}
        assert tasks == {ONE} | {crashes.task for crashes in suspects[:-1]}

    @pytest.mark.parametrize("outcome", [Outcome.TASK_CRASHED, Outcome.TASK_UNUSABLE])
    def test_the_worker_s_own_word_counts_as_well(self, outcome: Outcome) -> None:
        memory = judged(FRESH, make_worker("Failed", "w0", outcome=outcome, task=ONE))
        assert [c.task for c in memory.crashes] == [ONE]

    @pytest.mark.parametrize(
        "ending",
        [
            Ending(exit_code=137, disrupted=True),
            Ending(exit_code=137, pod_reason="Evicted"),
        ],
    )
    def test_the_host_s_fault_is_never_the_task_s(self, ending: Ending) -> None:
        memory = judged(FRESH, replace(killed("w0"), ending=ending))
        assert (memory.crashes, memory.consecutive_failures) == ((), 0)


class TestFailuresInARow:
    def test_tasks_that_crash_one_after_the_other_open_the_circuit(self) -> None:
        workers = [killed(f"w{n}", f"Task-{n}-a-b-c") for n in range(3)]
        memory = judged(FRESH, *workers)
        assert memory.consecutive_failures == 3
        assert memory.failing == Backoff(rounds=1, retry_at=NOON + RETRY)

    def test_one_task_that_crashes_again_and_again_does_not(self) -> None:
        memory = FRESH
        for number in range(9):
            memory = judged(memory, killed(f"w{number}"), at=NOON + number * MINUTE)
        assert (memory.consecutive_failures, memory.failing) == (1, None)
        assert memory.crashes[0].in_a_row

    def test_a_crash_of_no_known_task_counts_each_time(self) -> None:
        memory = judged(FRESH, *(killed(f"w{n}", None) for n in range(3)))
        assert memory.failing is not None
        assert memory.crashes == ()

    def test_after_a_success_the_same_task_counts_anew(self) -> None:
        memory = judged(FRESH, killed("w0"))
        memory = judged(memory, killed("w0"), done("w1"))
        assert (memory.consecutive_failures, memory.last_failure) == (0, "")
        memory = judged(memory, killed("w0"), done("w1"), killed("w2"))
        assert memory.consecutive_failures == 1

    def test_a_success_forgets_neither_suspects_nor_quarantines(self) -> None:
        memory = judged(FRESH, killed("w0"), unfit("w1"))
        after = judged(memory, killed("w0"), unfit("w1"), done("w2"))
        assert [(c.task, c.number) for c in after.crashes] == [(ONE, 1)]
        assert [q.node for q in after.quarantined] == ["node-1"]
        assert not after.quarantined[0].in_a_row

    @pytest.mark.parametrize(
        "outcome",
        [
            Outcome.TERMINATED,
            Outcome.API_UNREACHABLE,
            Outcome.MANAGER_UNKNOWN,
            Outcome.DENIED,
            Outcome.REGISTRATION_LOST,
            Outcome.PUSH_AMBIGUOUS,
            Outcome.PUSHING,
        ],
    )
    def test_the_host_and_the_server_are_nobody_s_failures(self, outcome: Outcome) -> None:
        memory = judged(FRESH, *(make_worker("Failed", f"w{n}", outcome=outcome) for n in range(5)))
        assert replace(memory, judged=frozenset()) == FRESH

    def test_the_last_is_told(self) -> None:
        worker = make_worker("Failed", "w0", outcome=Outcome.SETTINGS_INVALID)
        assert judged(FRESH, worker).last_failure == "w0-pod on node-1: SettingsInvalid"


class TestCountFailure:
    def test_below_the_limit_nothing_pauses(self) -> None:
        memory = count_failure(SPEC, replace(FRESH, consecutive_failures=1), "again", NOON)
        assert (memory.consecutive_failures, memory.failing) == (2, None)
        assert memory.last_failure == "again"

    def test_at_the_limit_the_circuit_opens(self) -> None:
        memory = count_failure(SPEC, replace(FRESH, consecutive_failures=2), "again", NOON)
        assert memory.failing == Backoff(rounds=1, retry_at=NOON + RETRY)

    def test_during_the_pause_it_is_not_prolonged(self) -> None:
        open_since = Backoff(rounds=1, retry_at=NOON + RETRY)
        memory = replace(FRESH, consecutive_failures=3, failing=open_since)
        memory = count_failure(SPEC, memory, "a straggler", NOON + RETRY - SECOND)
        assert (memory.consecutive_failures, memory.failing) == (4, open_since)

    def test_after_it_each_pause_is_twice_as_long_up_to_an_hour(self) -> None:
        memory, now, pauses = replace(FRESH, consecutive_failures=2), NOON, []
        for _ in range(6):
            memory = count_failure(SPEC, memory, "again", now)
            assert memory.failing is not None
            pauses.append(memory.failing.retry_at - now)
            now = memory.failing.retry_at
        assert pauses == [RETRY, 2 * RETRY, 4 * RETRY, HOUR, HOUR, HOUR]


class TestPause:
    @pytest.mark.parametrize(
        ("first", "rounds", "length"),
        [
            (SECOND, 1, SECOND),
            (SECOND, 2, 2 * SECOND),
            (SECOND, 5, 16 * SECOND),
            (SECOND, 400, LONGEST_BACKOFF),
            (LONGEST_BACKOFF, 2, LONGEST_BACKOFF),
            (3 * HOUR, 1, 3 * HOUR),
            (3 * HOUR, 9, 3 * HOUR),
        ],
    )
    def test_it_doubles_to_an_hour_or_the_first(
        self, first: timedelta, rounds: int, length: timedelta
    ) -> None:
        assert pause(first, rounds, NOON, tasks=4) == Backoff(rounds, NOON + length, 4)


def test_a_person_s_word_forgives_all_that_holds_a_pool_up_and_nothing_else() -> None:
    held_up = Memory(
        waiting_tasks=5,
        left_since=(("a100_x", NOON),),
        given_up=frozenset({"uid"}),
        futile=Backoff(2, NOON, 3),
        consecutive_failures=7,
        last_failure="bad",
        failing=Backoff(4, NOON),
        halt=Halt(1, "stop", NOON),
        reported_at=NOON,
        resume="then",
        quarantined=(Quarantine("node-1", "unfit", NOON, NOON + HOUR),),
        crashes=(Crashes(ONE, 3, NOON, "killed"),),
        gone_succeeded=4,
        gone_failed=5,
    )
    assert forgive(held_up) == replace(
        held_up,
        futile=None,
        consecutive_failures=0,
        last_failure="",
        failing=None,
        quarantined=(),
        crashes=(),
    )
