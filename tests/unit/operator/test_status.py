"""The status: conditions in both directions, what kstatus makes of it, and what a restart reads."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.operator.builders import HOUR, MINUTE, NOON, SECOND, table

from computepool_operator.memory import Backoff, Crashes, Halt, Memory, Quarantine
from computepool_operator.plan import Verdict
from computepool_operator.pool import Condition, PoolStatus
from computepool_operator.reasons import HEALTH, Health, Reason
from computepool_operator.revision import Revision
from computepool_operator.status import (
    Facts,
    build_status,
    is_warning,
    recall,
    worth_an_event,
)
from computepool_operator.workers import WorkerCounts, WorkerState

MANAGER = "lab.a100-d06a26067fa64217bf0781e0aaf2f45b"
SEEN = Memory(judged=frozenset(), reported_at=NOON)
NEW = PoolStatus()

BESIDE_READY = {
    Reason.REGISTERED,
    Reason.ROOM_LEFT,
    Reason.UP_TO_DATE,
    Reason.NOT_STALLED,
}


def facts(reason: Reason = Reason.WORKERS_RUNNING, **more: object) -> Facts:
    """A cycle that went well, or what is said of it."""
    given: dict[str, object] = {
        "generation": 3,
        "verdict": Verdict(reason, "What happened."),
        "memory": SEEN,
        "manager_id": MANAGER,
        "selector": "pool=a100",
        "counts": WorkerCounts(running=2),
        "max_workers": 4,
        "registered": True,
        "completed": True,
        **more,
    }
    return Facts(**given)  # type: ignore[arg-type]


def built(*steps: Facts, before: PoolStatus = NEW, now: datetime = NOON) -> PoolStatus:
    """The status after these cycles, a minute apart."""
    for number, step in enumerate(steps):
        before = build_status(before, step, now + number * MINUTE)
    return before


def get(status: PoolStatus, kind: str) -> Condition:
    (found,) = [condition for condition in status.conditions if condition.type == kind]
    return found


def kstatus(status: PoolStatus, generation: int = 3) -> str:
    """What kubectl, Argo CD and Flux make of conditions (sigs.k8s.io/cli-utils, kstatus)."""
    if status.observed_generation != generation:
        return "InProgress"
    conditions = {condition.type: condition.status for condition in status.conditions}
    if conditions.get("Stalled") == "True":
        return "Failed"
    if conditions.get("Reconciling") == "True" or conditions.get("Ready") in ("False", "Unknown"):
        return "InProgress"
    return "Current"


class TestReasons:
    def test_every_reason_is_one_that_ready_gives_or_of_another_condition(self) -> None:
        assert set(Reason) == set(HEALTH) | BESIDE_READY
        assert not set(HEALTH) & BESIDE_READY

    @pytest.mark.parametrize("reason", Reason)
    def test_each_is_one_camel_case_word(self, reason: Reason) -> None:
        assert reason.value[0].isupper()
        assert reason.value.isalpha()

    @pytest.mark.parametrize("reason", HEALTH)
    def test_each_gives_conditions_that_agree(self, reason: Reason) -> None:
        status = built(facts(reason))
        told = {
            Health.GOOD: ("True", "False", "False"),
            Health.WAITING: ("False", "True", "False"),
            Health.UNKNOWN: ("Unknown", "True", "False"),
            Health.STALLED: ("False", "False", "True"),
        }
        kinds = ("Ready", "Reconciling", "Stalled")
        assert tuple(get(status, kind).status for kind in kinds) == told[HEALTH[reason]]

    @pytest.mark.parametrize("reason", HEALTH)
    def test_each_is_told_to_kstatus(self, reason: Reason) -> None:
        wanted = {Health.GOOD: "Current", Health.STALLED: "Failed"}
        assert kstatus(built(facts(reason))) == wanted.get(HEALTH[reason], "InProgress")

    @pytest.mark.parametrize("reason", HEALTH)
    def test_the_column_and_ready_say_the_same(self, reason: Reason) -> None:
        status = built(facts(reason))
        ready = get(status, "Ready")
        assert status.reason == ready.reason == reason
        assert status.message == ready.message == "What happened."


@dataclass(frozen=True)
class Switch:
    """What makes a condition True, and what makes it False (or Unknown) again."""

    condition: str
    on: Facts
    off: Facts
    off_status: str = "False"


BOTH_WAYS = {
    "Ready": Switch("Ready", facts(), facts(Reason.SECRET_MISSING)),
    "Ready, of a server that can't be asked": Switch(
        "Ready", facts(), facts(Reason.COMPUTE_API_UNAVAILABLE), "Unknown"
    ),
    "Registered": Switch("Registered", facts(), facts(registered=False)),
    "Registered, of a server that can't be asked": Switch(
        "Registered", facts(), facts(Reason.COMPUTE_API_UNAVAILABLE, registered=None), "Unknown"
    ),
    "Reconciling": Switch("Reconciling", facts(Reason.PENDING), facts()),
    "Reconciling, of a pool that is deleted": Switch(
        "Reconciling", facts(Reason.DRAINING, deleting=True), facts()
    ),
    "Stalled": Switch("Stalled", facts(Reason.CREDENTIALS_REFUSED), facts()),
    "Saturated": Switch("Saturated", facts(counts=WorkerCounts(running=4)), facts()),
    "Saturated, by a lowered maximum": Switch("Saturated", facts(max_workers=1), facts()),
}


@table(BOTH_WAYS)
def test_both_directions_of(case: Switch) -> None:
    seen = [
        get(built(*steps), case.condition).status
        for steps in ([case.on], [case.off], [case.on, case.off], [case.off, case.on])
    ]
    assert seen == ["True", case.off_status, case.off_status, "True"]


class TestConditions:
    def test_there_are_five_each_once(self) -> None:
        status = built(facts(), facts(Reason.SECRET_MISSING, counts=None), facts())
        kinds = [condition.type for condition in status.conditions]
        assert sorted(kinds) == ["Ready", "Reconciling", "Registered", "Saturated", "Stalled"]

    def test_each_says_for_which_generation_it_was_found(self) -> None:
        status = built(facts(), facts(generation=4))
        assert {condition.observed_generation for condition in status.conditions} == {4}
        assert status.observed_generation == 4

    def test_the_time_moves_only_when_the_status_changes(self) -> None:
        steady = built(facts(Reason.NO_TASKS), facts(Reason.SATURATED), facts())
        assert get(steady, "Ready").last_transition_time == NOON
        changed = built(facts(), facts(Reason.SECRET_MISSING), facts(Reason.SECRET_MISSING))
        assert get(changed, "Ready").last_transition_time == NOON + MINUTE

    def test_what_is_not_found_out_again_stays_as_it_was(self) -> None:
        full = facts(counts=WorkerCounts(running=4))
        status = built(full, facts(Reason.KUBERNETES_UNAVAILABLE, counts=None))
        assert get(status, "Saturated").status == "True"
        assert status.workers.running == 4

    def test_an_unregistered_pool_gives_the_reason_of_ready(self) -> None:
        status = built(facts(Reason.MANAGER_NAME_TAKEN, registered=False))
        assert get(status, "Registered").reason == "ManagerNameTaken"

    def test_a_good_reason_is_none_for_not_being_registered(self) -> None:
        status = built(facts(Reason.SUSPENDED, registered=False))
        assert get(status, "Registered").reason == "NotRegistered"

    def test_long_messages_are_cut(self) -> None:
        verdict = Verdict(Reason.JOBS_REFUSED, "x" * 50_000)
        body = built(facts(verdict=verdict)).to_body()
        assert len(body["message"]) == 4096
        assert max(len(condition["message"]) for condition in body["conditions"]) == 4096


class TestFields:
    def test_what_a_cycle_found(self) -> None:
        status = built(
            facts(
                instruction="OK",
                saturation=0.5,
                counts=WorkerCounts(pending=2, starting=1, running=3, ending=2, succeeded=4),
                memory=replace(
                    SEEN,
                    waiting_tasks=12,
                    # One has ended that is yet to be judged.
                    judged=frozenset((f"a100-{n}", WorkerState.SUCCEEDED) for n in range(3)),
                    gone_succeeded=37,
                    gone_failed=1,
                ),
            )
        )
        assert status.instruction == "OK"
        assert status.tasks.waiting == 12
        assert status.saturation == "0.50"
        assert status.workers.model_dump(by_alias=False) == {
            "pending": 2,
            "starting": 1,
            "running": 5,
            "active": 8,
            "succeeded": 40,
            "failed": 1,
        }
        assert (status.last_cycle_time, status.last_report_time) == (NOON, NOON)

    def test_the_columns_of_workers_add_up(self) -> None:
        workers = built(
            facts(counts=WorkerCounts(pending=2, starting=1, running=3, ending=2))
        ).workers
        assert workers.active == workers.pending + workers.starting + workers.running

    def test_a_cycle_that_broke_off_is_none(self) -> None:
        status = built(facts(), facts(Reason.COMPUTE_API_UNAVAILABLE, completed=False))
        assert status.last_cycle_time == NOON

    def test_unknown_is_never_zero(self) -> None:
        broken = facts(Reason.COMPUTE_API_UNAVAILABLE, counts=None, registered=None)
        twelve = replace(SEEN, waiting_tasks=12)
        known = facts(instruction="OK", saturation=0.5, memory=twelve)
        status = built(known, replace(broken, memory=twelve))
        assert (status.tasks.waiting, status.instruction) == (12, "OK")
        assert (status.saturation, status.workers.active) == ("0.50", 2)

    def test_what_was_held_against_a_node_or_a_task_last_comes_first(self) -> None:
        minutes = [timedelta(minutes=minute) for minute in range(600)]
        crashes = tuple(Crashes(f"Task-{n}-a-b-c", 1, NOON + m, "") for n, m in enumerate(minutes))
        quarantined = tuple(
            Quarantine(f"node-{n}", "", NOON + m, NOON + HOUR) for n, m in enumerate(minutes)
        )
        memory = replace(SEEN, crashes=crashes, quarantined=quarantined)
        status = PoolStatus.model_validate(built(facts(memory=memory)).to_body())
        assert (status.poison_tasks[0].task, len(status.poison_tasks)) == ("Task-599-a-b-c", 512)
        assert (status.quarantined_nodes[0].name, len(status.quarantined_nodes)) == (
            "node-599",
            512,
        )

    def test_an_open_circuit_says_since_when(self) -> None:
        failing = Backoff(rounds=1, retry_at=NOON + HOUR)
        again = Backoff(rounds=3, retry_at=NOON + 2 * HOUR)
        status = built(
            facts(memory=replace(SEEN, failing=failing)),
            facts(memory=replace(SEEN, failing=again)),
        )
        assert status.circuit.open
        assert (status.circuit.since, status.circuit.retries) == (NOON, 2)
        closed = build_status(status, facts(), NOON)
        assert (closed.circuit.open, closed.circuit.since) == (False, None)


times = st.integers(-100_000, 100_000).map(lambda seconds: NOON + seconds * SECOND)
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=60)
NODES = (("node-1", 2), ("node-2", 1))


@st.composite
def memories(draw: st.DrawFn) -> Memory:
    """Memories that a plan can leave, as far as a status keeps them."""
    waiting = draw(st.integers(0, 50))
    futile = Backoff(draw(st.integers(1, 9)), draw(times), tasks=draw(st.integers(1, 50)))
    failing = Backoff(draw(st.integers(1, 9)), draw(times))
    names = draw(st.sets(st.sampled_from([f"a100-{n}" for n in range(6)])))
    ended = [WorkerState.SUCCEEDED, WorkerState.FAILED]
    return Memory(
        judged=frozenset((name, draw(st.sampled_from(ended))) for name in names),
        waiting_tasks=draw(st.sampled_from([None, waiting])),
        left_since=draw(st.sampled_from([(), (("a100_x-1", draw(times)),)])),
        given_up=draw(st.frozensets(st.sampled_from(["a100-y", "a100-z"]))),
        futile=draw(st.sampled_from([None, futile])),
        consecutive_failures=draw(st.integers(0, 9)),
        last_failure=draw(texts),
        failing=draw(st.sampled_from([None, failing])),
        reported_at=draw(st.none() | times),
        resume=draw(st.none() | texts),
        revision=draw(st.sampled_from([None, Revision("0a1b2c3d4e", "5f6a7b8c9d")])),
        quarantined=tuple(
            Quarantine(node, draw(texts), NOON + since * SECOND, draw(times))
            for node, since in draw(st.sampled_from([(), NODES[:1], NODES]))
        ),
        crashes=tuple(
            Crashes(task, draw(st.integers(1, 9)), draw(times), draw(texts), draw(st.booleans()))
            for task in draw(st.sampled_from([(), ("Task-1-a-b-c",)]))
        ),
        gone_succeeded=draw(st.integers(0, 99)),
        gone_failed=draw(st.integers(0, 99)),
    )


def written_and_read(memory: Memory, reason: Reason = Reason.NO_TASKS, text: str = "") -> Memory:
    """What the next operator remembers: the status goes through the API server as JSON."""
    status = built(
        facts(
            verdict=Verdict(reason, text),
            memory=memory,
            counts=WorkerCounts(),
        )
    )
    return recall(PoolStatus.model_validate(status.to_body()))


class TestRecall:
    @given(memories())
    def test_a_restart_remembers(self, memory: Memory) -> None:
        assert written_and_read(memory) == memory

    @given(st.integers(1, 9), times, texts.filter(bool))
    def test_a_pool_that_the_server_shut_down_stays_so(
        self, generation: int, since: datetime, message: str
    ) -> None:
        halt = Halt(generation, message, since)
        status = build_status(
            NEW,
            facts(
                generation=generation,
                verdict=Verdict(Reason.SHUT_DOWN_BY_SERVER, message),
                memory=replace(SEEN, halt=halt),
            ),
            since,
        )
        assert recall(PoolStatus.model_validate(status.to_body())).halt == halt

    @pytest.mark.parametrize(
        "meanwhile", [Reason.KUBERNETES_UNAVAILABLE, Reason.SECRET_MISSING, Reason.STOPPING]
    )
    def test_it_stays_so_whatever_else_is_wrong_meanwhile(self, meanwhile: Reason) -> None:
        # Or a restart an hour later would take the registration for lapsed, and renew it.
        memory = replace(SEEN, halt=Halt(4, "told to", NOON))
        found = facts(generation=4, verdict=Verdict(meanwhile, "trouble"), memory=memory)
        status = build_status(NEW, found, NOON)
        assert status.reason == meanwhile
        assert recall(PoolStatus.model_validate(status.to_body())).halt == memory.halt

    def test_a_changed_spec_is_not_forgotten_when_the_server_could_not_be_asked(self) -> None:
        memory = replace(SEEN, halt=Halt(4, "told to", NOON))
        away = Verdict(Reason.COMPUTE_API_UNAVAILABLE, "no answer")
        status = build_status(NEW, facts(generation=5, verdict=away, memory=memory), NOON)
        assert recall(PoolStatus.model_validate(status.to_body())).halt is None

    def test_a_new_pool_has_nothing_to_remember(self) -> None:
        assert recall(NEW) == Memory()


@dataclass(frozen=True)
class Change:
    """From one reason to another: people are told, and as a warning or not."""

    before: Reason | None
    after: Reason
    told: bool
    warned: bool = False


EVENTS = {
    "a new pool": Change(None, Reason.PENDING, told=True),
    "a pool that has become ready": Change(Reason.PENDING, Reason.NO_TASKS, told=True),
    "a pool that goes about its work": Change(Reason.NO_TASKS, Reason.WORKERS_CREATED, told=False),
    "a pool that has filled up": Change(Reason.WORKERS_RUNNING, Reason.SATURATED, told=False),
    "nothing new": Change(Reason.SECRET_MISSING, Reason.SECRET_MISSING, told=False, warned=True),
    "a server that went away": Change(
        Reason.WORKERS_RUNNING, Reason.COMPUTE_API_UNAVAILABLE, told=True, warned=True
    ),
    "a server that is back": Change(
        Reason.COMPUTE_API_UNAVAILABLE, Reason.WORKERS_RUNNING, told=True
    ),
    "one trouble after another": Change(
        Reason.SECRET_MISSING, Reason.CREDENTIALS_REFUSED, told=True, warned=True
    ),
    "a circuit that opened": Change(
        Reason.WORKERS_RUNNING, Reason.WORKERS_FAILING, told=True, warned=True
    ),
    "a server that skips": Change(Reason.WORKERS_RUNNING, Reason.SKIPPED_BY_SERVER, told=True),
}


@table(EVENTS)
def test_an_event_of(case: Change) -> None:
    before = NEW if case.before is None else built(facts(case.before))
    after = build_status(before, facts(case.after), NOON)
    assert worth_an_event(before, after) is case.told
    assert is_warning(after) is case.warned


def test_an_event_of_a_status_that_a_newer_operator_wrote() -> None:
    before = built(facts()).model_copy(update={"reason": "SomethingNew"})
    assert worth_an_event(before, built(facts(), before=before))
