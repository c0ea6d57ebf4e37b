"""Why workers do not start, where only events tell."""

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import pytest
from unit.operator.builders import MINUTE, NOON, SECOND, make_worker
from unit.operator.objects import POD_UID, stamp

from computepool_operator.complaints import RECENT, latest_complaint, subject, wordless
from computepool_operator.inquiry import KEPT, MOST_AT_ONCE, Inquiry
from computepool_operator.kubeapi import Refused, Unavailable
from computepool_operator.names import service_id
from computepool_operator.plan import PATIENCE
from computepool_operator.workers import Worker

Body = dict[str, Any]
JOB = "a100-46v8mb2q"
QUOTA = (
    f'Error creating: pods "{JOB}-x7k2p" is forbidden: exceeded quota: few, requested: '
    "requests.nvidia.com/gpu=1, used: requests.nvidia.com/gpu=0, limited: requests.nvidia.com/gpu=0"
)
MOUNT = 'MountVolume.SetUp failed for volume "credentials" : secret "lab" not found'
SUMMARY = "Unable to attach or mount volumes: unmounted volumes=[credentials]: context deadline"
LONG_AGO = NOON - 2 * PATIENCE


def silent(name: str = JOB, state: str = "Pending", **fields: Any) -> Worker:
    return make_worker(state, name, created_at=LONG_AGO, **fields)


def event(
    message: str = QUOTA,
    at: datetime = NOON,
    *,
    reason: str = "FailedCreate",
    kind: str = "Warning",
    **fields: Any,
) -> Body:
    return {
        "metadata": {"name": "e", "creationTimestamp": stamp(NOON - RECENT)},
        "type": kind,
        "reason": reason,
        "message": message,
        "lastTimestamp": stamp(at),
        **fields,
    }


class TestWhoIsAskedFor:
    def test_who_should_have_started_and_says_nothing(self) -> None:
        for state in ("Pending", "Starting"):
            assert len(wordless([silent(state=state)], NOON)) == 1

    @pytest.mark.parametrize(
        "worker",
        [
            pytest.param(make_worker("Pending", created_at=NOON - PATIENCE + SECOND), id="young"),
            pytest.param(silent(released_at=NOON), id="resumed just now"),
            pytest.param(silent(suspended=True), id="suspended"),
            pytest.param(silent(trouble="Unschedulable: no GPU"), id="it has words"),
            pytest.param(silent(state="Running"), id="at work"),
            pytest.param(silent(state="Ending"), id="on its way out"),
            pytest.param(silent(state="Failed"), id="over"),
            pytest.param(replace(silent(state="Starting"), started=True), id="started"),
            pytest.param(replace(silent(), uid=""), id="not known to exist"),
        ],
    )
    def test_nobody_else(self, worker: Worker) -> None:
        assert wordless([worker], NOON) == []

    def test_about_its_pod_or_without_one_about_its_job(self) -> None:
        assert subject(silent()) == f"uid-{JOB}"
        assert subject(replace(silent(), service_id=service_id(JOB, POD_UID))) == POD_UID


class TestWords:
    def test_they_are_kubernetes_own_but_for_the_workers_name(self) -> None:
        said = latest_complaint(silent(), [event()], NOON)
        assert said == "FailedCreate: " + QUOTA.replace(f"{JOB}-x7k2p", "a100-*")

    def test_two_workers_that_are_held_up_by_the_same_say_the_same(self) -> None:
        other = silent("a100-zz2q46v8")
        theirs = event(QUOTA.replace(f"{JOB}-x7k2p", f"{other.name}-bcdf2"))
        mine = latest_complaint(silent(), [event()], NOON)
        assert mine == latest_complaint(other, [theirs], NOON)

    def test_the_newest_counts(self) -> None:
        events = [event("old", NOON - MINUTE), event("new"), event("older", NOON - 2 * MINUTE)]
        assert latest_complaint(silent(), events, NOON) == "FailedCreate: new"

    @pytest.mark.parametrize(
        "times",
        [
            {"lastTimestamp": None, "eventTime": stamp(NOON)},
            {"series": {"lastObservedTime": "2026-03-01T12:00:00.123456Z"}},
        ],
    )
    def test_wherever_its_time_stands(self, times: Body) -> None:
        events = [event("new", NOON - 2 * MINUTE, **times), event("old", NOON - MINUTE)]
        assert latest_complaint(silent(), events, NOON) == "FailedCreate: new"

    def test_a_cause_comes_before_the_summary_that_follows_it(self) -> None:
        events = [
            event(MOUNT, NOON - MINUTE, reason="FailedMount"),
            event(SUMMARY, reason="FailedMount"),
        ]
        worker = silent(state="Starting")
        assert latest_complaint(worker, events, NOON) == f"FailedMount: {MOUNT}"
        assert latest_complaint(worker, events[1:], NOON) == f"FailedMount: {SUMMARY}"

    @pytest.mark.parametrize(
        "told",
        [
            pytest.param(event(kind="Normal", reason="Pulling"), id="no warning"),
            pytest.param(event(at=NOON - RECENT - SECOND), id="over since long"),
            pytest.param(event(reason="FailedScheduling"), id="it has a node by now"),
            pytest.param(event(lastTimestamp=None, metadata={}), id="without any time"),
        ],
    )
    def test_what_does_not_tell(self, told: Body) -> None:
        assert latest_complaint(silent(state="Starting"), [told], NOON) == ""

    def test_long_ones_are_cut(self) -> None:
        assert len(latest_complaint(silent(), [event("x" * 5000)], NOON)) == 1024


@dataclass
class Desk:
    """Gives out events, or an error, and remembers about what."""

    events: list[Body] = field(default_factory=lambda: [event()])
    error: Exception | None = None
    asked: list[str] = field(default_factory=list)

    async def read(self, uid: str) -> list[Body]:
        self.asked.append(uid)
        if self.error is not None:
            raise self.error
        return self.events


class TestInquiry:
    async def test_only_those_that_say_nothing_are_asked_for(self) -> None:
        desk = Desk()
        workers = (
            silent(),
            silent("a100-b", trouble="Unschedulable: no"),
            silent("a100-c", "Running"),
        )
        explained = await Inquiry(desk.read).explained(workers, NOON)
        assert desk.asked == [f"uid-{JOB}"]
        assert explained[0].trouble.startswith("FailedCreate: Error creating: pods")
        assert explained[1:] == workers[1:]

    async def test_an_answer_is_kept_a_while(self) -> None:
        desk = Desk()
        inquiry = Inquiry(desk.read)
        for now in (NOON, NOON + KEPT - SECOND):
            (worker,) = await inquiry.explained([silent()], now)
            assert "exceeded quota" in worker.trouble
        assert len(desk.asked) == 1
        desk.events = []
        (worker,) = await inquiry.explained([silent()], NOON + KEPT)
        assert worker.trouble == ""
        assert len(desk.asked) == 2

    async def test_a_few_at_a_time_and_all_in_turn(self) -> None:
        desk = Desk()
        inquiry = Inquiry(desk.read)
        workers = [silent(f"a100-{number}") for number in range(MOST_AT_ONCE * 2)]
        now = NOON
        for round_ in (1, 2, 3, 4):
            explained = await inquiry.explained(workers, now)
            assert len(desk.asked) == MOST_AT_ONCE * round_
            known = [worker for worker in explained if worker.trouble]
            assert len(known) == MOST_AT_ONCE * min(round_, 2)
            now += KEPT
        assert sorted(desk.asked) == sorted(2 * [worker.uid for worker in workers])

    @pytest.mark.parametrize(
        "error", [Refused("GET", 403, "no right"), Unavailable("GET", None, "")]
    )
    async def test_an_error_costs_the_words_alone_and_is_not_repeated_at_once(
        self, error: Exception
    ) -> None:
        desk = Desk(error=error)
        inquiry = Inquiry(desk.read)
        workers = (silent(), silent("a100-b"))
        assert await inquiry.explained(workers, NOON) == workers
        assert len(desk.asked) == 1

    async def test_what_was_known_stays_known_through_an_error(self) -> None:
        desk = Desk()
        inquiry = Inquiry(desk.read)
        await inquiry.explained([silent()], NOON)
        desk.error = Unavailable("GET", 503, "busy")
        (worker,) = await inquiry.explained([silent()], NOON + KEPT)
        assert "exceeded quota" in worker.trouble

    async def test_who_has_gone_is_forgotten(self) -> None:
        inquiry = Inquiry(Desk().read)
        await inquiry.explained([silent()], NOON)
        await inquiry.explained([], NOON)
        assert inquiry._answers == {}
