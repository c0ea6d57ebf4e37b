"""Jobs and pods as Kubernetes gives them out, read into workers."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest
from unit.operator.builders import HOUR, SECOND, table
from unit.operator.objects import (
    CLAIMED,
    CREATED,
    ENDED,
    JOB,
    JOB_UID,
    POD_UID,
    SCHEDULED,
    STARTED,
    Body,
    beside,
    condition,
    ended_pod,
    holding_a_task,
    job_object,
    later,
    not_ready_yet,
    pod_object,
    running,
    says,
    stamp,
    unscheduled,
    waiting,
)

from computepool_api.outcomes import Outcome
from computepool_operator.blame import Blame, blame
from computepool_operator.names import REVISION_LABEL
from computepool_operator.reading import departed, parse_time, read_worker
from computepool_operator.revision import Revision
from computepool_operator.roster import Roster
from computepool_operator.workers import Worker, WorkerState

PENDING, STARTING, RUNNING, LINGERING, ENDING, SUCCEEDED, FAILED = WorkerState


@dataclass(frozen=True)
class Case:
    """This Job and this pod are a worker of this state, which finished then."""

    state: WorkerState
    pod: Body | None
    job: Body
    finished_at: datetime | None = None


def of(state: WorkerState, pod: Body | None, finished_at: datetime | None = None) -> Case:
    return Case(state, pod, job_object(active=1), finished_at)


def job_ends(kind: str, reason: str) -> Body:
    return condition(kind, True, ENDED, reason=reason)


def worker_is_ready(pod: Body) -> Body:
    """The pod with its worker's container ready, whatever the pod as a whole is."""
    pod["status"]["containerStatuses"][0]["ready"] = True
    return pod


def with_phase(pod: Body, phase: str) -> Body:
    pod["status"]["phase"] = phase
    return pod


STATES = {
    "a Job whose pod has not been made yet": of(PENDING, None),
    "a pod that the scheduler has not looked at": of(PENDING, unscheduled()),
    "a pod that fits on no node": of(PENDING, unscheduled("0/3 nodes are available")),
    "a pod that has just been bound": of(STARTING, pod_object()),
    "an image that is being pulled": of(STARTING, waiting("ContainerCreating")),
    "an image that can't be pulled": of(STARTING, waiting("ImagePullBackOff")),
    "a container that runs and has claimed nothing": of(STARTING, running()),
    "a worker that holds a Task": of(RUNNING, holding_a_task()),
    "a worker that held a Task and is about to leave": of(
        RUNNING, running(condition("Ready", False, later(CLAIMED, 500)))
    ),
    "a container that started in the second in which its pod was admitted": of(
        STARTING, running(condition("Ready", False, STARTED, reason="ContainersNotReady"))
    ),
    "a container that took minutes to start": of(STARTING, running(not_ready_yet())),
    "a pod without the condition Ready": of(STARTING, running(condition("Other", True, CLAIMED))),
    "a pod that is told to go while it holds a Task": of(ENDING, holding_a_task(deleted=True)),
    "a pod that is told to go before it has claimed": of(ENDING, running(deleted=True)),
    "a pod that is deleted before it got a node": of(ENDING, pod_object(node=None, deleted=True)),
    "a Job that is deleted while its pod runs": Case(
        ENDING, holding_a_task(), job_object(deleted=True)
    ),
    "a Job that is deleted before it had a pod": Case(ENDING, None, job_object(deleted=True)),
    "a pod that succeeded, before the Job controller has seen it": of(
        SUCCEEDED, ended_pod(0), ENDED
    ),
    "a pod that failed, before the Job controller has seen it": of(FAILED, ended_pod(70), ENDED),
    "a pod that failed while it was deleted": of(FAILED, ended_pod(143, deleted=True), ENDED),
    "a pod that succeeded of a Job that is deleted": Case(
        SUCCEEDED, ended_pod(0), job_object(deleted=True), ENDED
    ),
    "a Job that is complete": Case(
        SUCCEEDED,
        ended_pod(0),
        job_object(job_ends("SuccessCriteriaMet", "CompletionsReached"), job_ends("Complete", "")),
        ENDED,
    ),
    "a pod that is gone after its Job has failed": Case(
        FAILED, None, job_object(job_ends("Failed", "BackoffLimitExceeded")), ENDED
    ),
    "a pod that is gone after its Job is complete": Case(
        SUCCEEDED, None, job_object(job_ends("Complete", "CompletionsReached")), ENDED
    ),
    "a pod that is gone, the Job controller about to say so": Case(
        FAILED, None, job_object(job_ends("FailureTarget", "BackoffLimitExceeded")), ENDED
    ),
    "a Job past its deadline whose pod is still ending": Case(
        ENDING,
        holding_a_task(deleted=True),
        job_object(job_ends("FailureTarget", "DeadlineExceeded")),
    ),
    "a pod that runs although its Job is said to have failed": Case(
        RUNNING, holding_a_task(), job_object(job_ends("Failed", "DeadlineExceeded"))
    ),
    "a pod that the kubelet has turned away": of(
        FAILED,
        pod_object(phase="Failed", reason="OutOfnvidia.com/gpu", message="Node didn't have enough"),
        CREATED,
    ),
    "a worker that has ended beside a proxy that runs on": of(
        LINGERING, beside(ended_pod(0)), ENDED
    ),
    "a worker that was killed beside a proxy that runs on": of(
        LINGERING, beside(ended_pod(137, reason="OOMKilled")), ENDED
    ),
    "one whose Job is deleted for it": Case(
        ENDING, beside(ended_pod(0)), job_object(deleted=True), ENDED
    ),
    "one whose pod is deleted for it": of(ENDING, beside(ended_pod(0, deleted=True)), ENDED),
    "a worker that has ended, its native sidecar about to": of(
        ENDING, beside(ended_pod(0), kind="initContainers"), ENDED
    ),
    "a worker that succeeded beside a proxy that was killed": of(
        SUCCEEDED, with_phase(beside(ended_pod(0), "terminated"), "Failed"), ENDED
    ),
    "a worker that failed beside a proxy that has ended": of(
        FAILED, beside(ended_pod(1), "terminated"), ENDED
    ),
    "a worker that has claimed nothing beside a proxy": of(STARTING, beside(running())),
    "a worker that holds a Task beside a proxy that is not ready": of(
        RUNNING, worker_is_ready(beside(running()))
    ),
    "a worker that waits for its image beside a proxy that runs": of(
        STARTING, beside(waiting("ImagePullBackOff"))
    ),
    "a pod that was evicted": of(
        FAILED,
        ended_pod(137, reason="Error", conditions=(condition("DisruptionTarget", True, ENDED),)),
        ENDED,
    ),
}


@table(STATES)
def test_the_state_of(case: Case) -> None:
    worker = read_worker(case.job, case.pod)
    assert (worker.state, worker.finished_at) == (case.state, case.finished_at)


class TestIdentity:
    def test_a_worker_is_named_after_its_job(self) -> None:
        worker = read_worker(job_object(), running())
        assert (worker.name, worker.uid, worker.created_at) == (JOB, JOB_UID, CREATED)
        assert (worker.pod, worker.node) == (f"{JOB}-v7rh4", "gpu-7")

    def test_its_service_id_is_the_mapped_job_name_and_the_uid_of_the_pod(self) -> None:
        worker = read_worker(job_object(), running())
        assert worker.service_id == f"a100_46v8mb2q-{POD_UID.replace('-', '')}"

    def test_the_id_is_known_before_the_pod_has_a_node(self) -> None:
        assert read_worker(job_object(), unscheduled()).service_id is not None

    def test_without_a_pod_there_is_none(self) -> None:
        worker = read_worker(job_object(), None)
        assert (worker.pod, worker.node, worker.service_id) == (None, None, None)


class TestStarted:
    @pytest.mark.parametrize(
        ("pod", "started"),
        [
            (unscheduled(), False),
            (pod_object(), False),
            (waiting("ImagePullBackOff"), False),
            (running(), True),
            (holding_a_task(), True),
            (ended_pod(1), True),
        ],
    )
    def test_a_worker_has_started_when_its_container_has_run(
        self, pod: Body, started: bool
    ) -> None:
        assert read_worker(job_object(), pod).started is started


@pytest.mark.parametrize(
    "counts",
    [
        {"failed": 1},
        {"succeeded": 1},
        {"uncountedTerminatedPods": {"failed": ["7fe2c18e-5b01-ecfb-10a6-1c941f82df6e"]}},
    ],
)
def test_a_job_that_has_had_its_pod_waits_for_none(counts: Body) -> None:
    """Kubernetes 1.30 lets go of the pod before it says in a condition how the Job has ended."""
    job = job_object(**counts)
    assert read_worker(job, None).state is ENDING
    # A suspended one makes another when it is resumed.
    job["spec"]["suspend"] = True
    assert read_worker(job, None).state is PENDING


def test_a_pod_that_the_control_plane_gave_up_may_be_at_work_for_its_grace() -> None:
    pod = with_phase(holding_a_task(), "Failed")
    pod["spec"]["terminationGracePeriodSeconds"] = 40
    worker = read_worker(job_object(), pod)
    assert (worker.state, worker.may_work_for) == (FAILED, 40 * SECOND)
    assert read_worker(job_object(), ended_pod(1)).may_work_for == 0 * SECOND


def test_a_worker_says_of_which_revision_it_is() -> None:
    job = job_object()
    assert read_worker(job, None).revision is None
    job["metadata"]["labels"][REVISION_LABEL] = "0a1b2c3d4e-5f6a7b8c9d"
    for pod in (None, running()):
        assert read_worker(job, pod).revision == Revision("0a1b2c3d4e", "5f6a7b8c9d")


class TestTrouble:
    """What Kubernetes says about why a worker does not start."""

    @pytest.mark.parametrize(
        ("pod", "trouble"),
        [
            pytest.param(
                unscheduled("0/3 nodes are available: 3 Insufficient nvidia.com/gpu."),
                "Unschedulable: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
                id="no node",
            ),
            pytest.param(
                waiting("ImagePullBackOff", 'Back-off pulling image "worker:v9"'),
                'ImagePullBackOff: Back-off pulling image "worker:v9"',
                id="no image",
            ),
            pytest.param(
                waiting("CreateContainerConfigError", 'secret "x" not found'),
                'CreateContainerConfigError: secret "x" not found',
                id="no Secret",
            ),
            pytest.param(unscheduled(), "", id="not looked at yet"),
            pytest.param(
                pod_object(condition("PodScheduled", False, CREATED, reason="Unschedulable")),
                "",
                id="bound by another scheduler than the one that says it cannot",
            ),
            pytest.param(waiting("ContainerCreating"), "", id="a container being created"),
            pytest.param(waiting("PodInitializing"), "", id="init containers at work"),
            pytest.param(holding_a_task(), "", id="at work"),
            pytest.param(ended_pod(1), "", id="over"),
        ],
    )
    def test_in_its_own_words(self, pod: Body, trouble: str) -> None:
        assert read_worker(job_object(), pod).trouble == trouble

    def test_an_init_container_that_is_held_up_holds_the_worker_up(self) -> None:
        def container(name: str, reason: str) -> Body:
            return {"name": name, "state": {"waiting": {"reason": reason, "message": "so"}}}

        pod = waiting("PodInitializing")
        pod["status"]["initContainerStatuses"] = [
            {"name": "first", "state": {"terminated": {"exitCode": 0}}},
            container("second", "ImagePullBackOff"),
            container("third", "PodInitializing"),
        ]
        assert read_worker(job_object(), pod).trouble == "ImagePullBackOff: so"
        # One that goes on beside it is no matter once the worker runs.
        pod["status"] |= running()["status"]
        assert read_worker(job_object(), pod).trouble == ""

    def test_a_job_that_a_queueing_system_holds_back_says_so(self) -> None:
        job = job_object()
        job["spec"]["suspend"] = True
        worker = read_worker(job, None)
        assert worker.state is PENDING
        assert worker.trouble.startswith("Suspended:")


class TestSuspension:
    """Kueue and people suspend Jobs, and resume them: the Job controller ends its pod meanwhile."""

    SUSPENDED = condition("Suspended", True, ENDED)

    def job(self, *conditions: Body, suspend: bool = True, **status: Any) -> Body:
        job = job_object(*conditions, **status)
        job["spec"]["suspend"] = suspend
        return job

    def test_it_lasts_until_the_job_controller_has_resumed_the_job(self) -> None:
        assert read_worker(self.job(), None).suspended
        assert read_worker(self.job(self.SUSPENDED), None).suspended
        # The condition goes together with a startTime that is up to date.
        assert read_worker(self.job(self.SUSPENDED, suspend=False), None).suspended
        resumed = self.job(condition("Suspended", False, ENDED), suspend=False)
        assert not read_worker(resumed, None).suspended

    def test_after_it_the_time_counts_anew(self) -> None:
        worker = read_worker(self.job(suspend=False, startTime=stamp(ENDED)), None)
        assert (worker.created_at, worker.waiting_since) == (CREATED, ENDED)
        del (never_started := self.job())["status"]["startTime"]
        assert read_worker(never_started, None).waiting_since == CREATED

    @pytest.mark.parametrize("exit_code", [0, 143])
    def test_a_preempted_pod_is_no_end_of_the_worker(self, exit_code: int) -> None:
        """Its Job has let go of it, and makes another when it is resumed."""
        pod = ended_pod(exit_code, says(Outcome.TERMINATED), deleted=True)
        worker = read_worker(self.job(), pod)
        assert (worker.state, worker.end, worker.finished_at) == (ENDING, None, None)
        assert read_worker(self.job(suspend=False), pod).end is not None

    def test_one_that_had_ended_before_has_ended(self) -> None:
        pod = ended_pod(0, says(Outcome.DONE))
        assert read_worker(self.job(), pod).state is SUCCEEDED


class TestLastWords:
    def test_a_worker_that_ended_by_itself_says_how(self) -> None:
        message = says(Outcome.DEVICE_UNFIT, detail="no CUDA platform")
        worker = read_worker(job_object(), ended_pod(10, message))
        assert worker.message is not None
        assert worker.message.outcome is Outcome.DEVICE_UNFIT
        assert worker.message.detail == "no CUDA platform"
        assert worker.ending is not None
        assert (worker.ending.exit_code, worker.ending.words) == (10, "")

    def test_one_that_was_killed_for_its_memory_names_the_task_it_held(self) -> None:
        message = says(Outcome.HOLDING, task="Task-1-a-b-c")
        worker = read_worker(job_object(), ended_pod(137, message, reason="OOMKilled"))
        assert worker.message is not None
        assert worker.message.task == "Task-1-a-b-c"
        assert worker.ending is not None
        assert (worker.ending.reason, worker.ending.exit_code) == ("OOMKilled", 137)

    def test_words_that_are_not_a_workers_are_kept_for_people(self) -> None:
        text = 'exec: "computepool-worker": executable file not found in $PATH'
        worker = read_worker(job_object(), ended_pod(128, text, reason="StartError"))
        assert worker.message is None
        assert worker.ending is not None
        assert worker.ending.words == text

    def test_a_pod_that_was_turned_away_has_the_kubelets_reason(self) -> None:
        pod = pod_object(phase="Failed", reason="UnexpectedAdmissionError", message="no devices")
        ending = read_worker(job_object(), pod).ending
        assert ending is not None
        assert (ending.pod_reason, ending.words) == ("UnexpectedAdmissionError", "no devices")

    def test_a_pod_that_kubernetes_took_away_is_disrupted(self) -> None:
        target = condition("DisruptionTarget", True, ENDED, reason="PreemptionByScheduler")
        ending = read_worker(job_object(), ended_pod(143, conditions=(target,))).ending
        assert ending is not None
        assert ending.disrupted

    @pytest.mark.parametrize(
        ("deleted", "disrupted"),
        [
            pytest.param(ENDED - 90 * SECOND, True, id="and was killed when its grace was over"),
            pytest.param(ENDED - SECOND, True, id="a moment before it ended"),
            pytest.param(ENDED + SECOND, False, id="only after it had ended"),
        ],
    )
    def test_a_pod_that_was_deleted_(self, deleted: datetime, disrupted: bool) -> None:
        pod = ended_pod(137, says(Outcome.HOLDING, task="Task-1-a-b-c"))
        pod["metadata"] |= {
            "deletionTimestamp": stamp(deleted + 90 * SECOND),
            "deletionGracePeriodSeconds": 90,
        }
        worker = read_worker(job_object(), pod)
        assert worker.ending is not None
        assert worker.ending.disrupted is disrupted
        # A Task is not to blame for the death of a worker that was told to go.
        assert blame(worker) is (Blame.HOST if disrupted else Blame.TASK)

    def test_the_kubelets_reason_for_an_eviction_goes_before_what_was_written(self) -> None:
        pod = ended_pod(137, "a traceback", reason="Error")
        pod["status"] |= {"reason": "Evicted", "message": "The node was low on resource: memory."}
        ending = read_worker(job_object(), pod).ending
        assert ending is not None
        assert ending.words == "The node was low on resource: memory."

    @pytest.mark.parametrize("kind", ["Failed", "FailureTarget"])
    def test_a_job_past_its_deadline_says_so(self, kind: str) -> None:
        job = job_object(job_ends(kind, "DeadlineExceeded"))
        ending = read_worker(job, ended_pod(143)).ending
        assert ending is not None
        assert ending.job_reason == "DeadlineExceeded"

    def test_a_worker_at_work_has_no_ending(self) -> None:
        worker = read_worker(job_object(), holding_a_task())
        assert (worker.ending, worker.message) == (None, None)

    def test_one_that_lingers_has_said_how_it_ended(self) -> None:
        message = says(Outcome.HOLDING, task="Task-1-a-b-c")
        worker = read_worker(job_object(), beside(ended_pod(137, message, reason="OOMKilled")))
        assert (worker.state, worker.end) == (LINGERING, FAILED)
        assert worker.message is not None
        assert worker.message.task == "Task-1-a-b-c"
        assert worker.ending is not None
        assert worker.ending.reason == "OOMKilled"

    def test_the_deletion_of_what_lingers_is_no_disruption(self) -> None:
        message = says(Outcome.HOLDING, task="Task-1-a-b-c")
        pod = beside(ended_pod(137, message, reason="OOMKilled"))
        pod["metadata"] |= {
            "deletionTimestamp": stamp(ENDED + 91 * SECOND),
            "deletionGracePeriodSeconds": 90,
        }
        worker = read_worker(job_object(deleted=True), pod)
        assert (worker.state, worker.end) == (ENDING, FAILED)
        assert blame(worker) is Blame.TASK

    def test_the_end_of_a_worker_at_work_is_not_known(self) -> None:
        assert read_worker(job_object(), beside(holding_a_task())).end is None
        assert read_worker(job_object(), beside(holding_a_task(deleted=True))).end is None

    def test_another_containers_end_is_not_the_workers(self) -> None:
        pod = holding_a_task()
        helper = deepcopy(ended_pod(1)["status"]["containerStatuses"][0])
        pod["status"]["containerStatuses"].insert(0, {**helper, "name": "helper"})
        worker = read_worker(job_object(), pod)
        assert (worker.state, worker.message) == (RUNNING, None)


class TestSeveral:
    def test_each_job_is_one_worker_in_order_of_name(self) -> None:
        other = job_object()
        other["metadata"] |= {"name": "a100-2222", "uid": "another"}
        workers = Roster().workers([job_object(), other], [holding_a_task()])
        assert [(w.name, w.state) for w in workers] == [("a100-2222", PENDING), (JOB, RUNNING)]

    @pytest.mark.parametrize("newest_first", [True, False])
    def test_of_two_pods_of_a_job_the_newer_counts(self, newest_first: bool) -> None:
        # A Job controller that lags behind may replace a pod that was deleted.
        old = ended_pod(143)
        new = running(created=later(CREATED, 60))
        new["metadata"] |= {"name": "the-newer", "uid": "3f0e3f4e-0000-4000-8000-000000000000"}
        pods = [new, old] if newest_first else [old, new]
        (worker,) = Roster().workers([job_object()], pods)
        assert (worker.pod, worker.state) == ("the-newer", STARTING)

    def test_a_pod_of_no_job_is_no_worker(self) -> None:
        assert Roster().workers([], [holding_a_task()]) == ()

    def test_only_what_has_changed_is_read_again(self) -> None:
        read: list[str] = []

        def reading(job: Mapping[str, Any], pod: Mapping[str, Any] | None) -> Worker:
            read.append(job["metadata"]["name"])
            return read_worker(job, pod)

        jobs, pods = [], []
        for number in range(100):
            job, pod = job_object(), pod_object()
            job["metadata"] |= {"name": f"a100-{number:02}", "uid": f"job-{number}"}
            pod["metadata"]["labels"]["batch.kubernetes.io/controller-uid"] = f"job-{number}"
            jobs.append(job)
            pods.append(pod)
        roster = Roster(reading)
        assert len(roster.workers(jobs, pods)) == len(read) == 100
        read.clear()
        for number in range(100):
            pods[number] = {**pods[number], "status": holding_a_task()["status"]}
            workers = roster.workers(jobs, pods)
            assert workers == tuple(read_worker(j, p) for j, p in zip(jobs, pods, strict=True))
        assert read == [job["metadata"]["name"] for job in jobs]
        read.clear()
        jobs[3] = deepcopy(jobs[3])
        del jobs[5], pods[7]
        assert len(roster.workers(jobs, pods)) == 99
        assert read == ["a100-03", "a100-07"]


class TestDeparted:
    def test_a_pod_that_had_ended(self) -> None:
        gone = departed(ended_pod(1), ENDED)
        assert gone is not None
        assert (gone.ended, gone.at) == (True, ENDED)
        assert gone.service_id == f"a100_46v8mb2q-{POD_UID.replace('-', '')}"

    @pytest.mark.parametrize(
        ("outcome", "sending"),
        [
            (Outcome.PUSHING, True),
            (Outcome.PUSH_AMBIGUOUS, True),
            (Outcome.HOLDING, False),
            (Outcome.TERMINATED, False),
        ],
    )
    def test_a_pod_that_was_sending_a_result_when_it_ended(
        self, outcome: Outcome, sending: bool
    ) -> None:
        gone = departed(ended_pod(137, says(outcome, task="Task-1-a-b-c")), ENDED)
        assert gone is not None
        assert (gone.ended, gone.sending) == (True, sending)

    def test_a_pod_that_was_removed_while_it_ran_may_still_be_at_work(self) -> None:
        gone = departed(holding_a_task(deleted=True), ENDED)
        assert gone is not None
        assert not gone.ended

    def test_a_pod_that_was_removed_while_only_its_proxy_ran_had_ended(self) -> None:
        gone = departed(beside(ended_pod(0)), ENDED)
        assert gone is not None
        assert gone.ended

    def test_a_pod_that_never_started_is_not_at_work(self) -> None:
        gone = departed(unscheduled(), ENDED)
        assert gone is not None
        assert gone.ended


class TestTimes:
    def test_kubernetes_writes_utc_in_whole_seconds(self) -> None:
        assert parse_time("2026-03-01T12:00:00Z") == CREATED

    def test_micro_times_are_read_too(self) -> None:
        assert parse_time("2026-03-01T12:00:00.250000Z") == CREATED + SECOND / 4

    def test_another_zone_is_the_same_moment(self) -> None:
        assert parse_time("2026-03-01T13:00:00+01:00") == CREATED

    @pytest.mark.parametrize("text", [None, ""])
    def test_none_is_none(self, text: str | None) -> None:
        assert parse_time(text) is None

    def test_what_was_never_created_is_a_bug(self) -> None:
        job = job_object()
        del job["metadata"]["creationTimestamp"]
        with pytest.raises(ValueError, match=f"{JOB} has no metadata.creationTimestamp"):
            read_worker(job, None)

    def test_the_life_used_here_is_in_order(self) -> None:
        assert CREATED < SCHEDULED < STARTED < CLAIMED < ENDED < CREATED + HOUR
