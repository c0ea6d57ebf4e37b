"""Whose fault an end was, over the ends that Kubernetes and the worker really report."""

from dataclasses import dataclass, replace

import pytest
from unit.operator.builders import make_worker, table

from computepool_api.outcomes import Outcome
from computepool_operator.blame import Blame, blame, story
from computepool_operator.workers import Ending, Worker

TASK = "Task-0a1b-org-campaign-project"
NO_ENDING = Ending()


@dataclass(frozen=True)
class End:
    """A worker that failed with this last word, as Kubernetes shows it: whose fault that was."""

    blamed: Blame
    said: Outcome | None = None
    ending: Ending = NO_ENDING
    pod: bool = True
    tasks_done: int = 0
    tasks_failed: int = 0

    def worker(self) -> Worker:
        held = (Outcome.HOLDING, Outcome.PUSHING, Outcome.TERMINATED)
        task = TASK if self.said in held else None
        worker = make_worker("Failed", outcome=self.said, task=task, ending=self.ending)
        if worker.message is not None:
            message = replace(
                worker.message, tasks_done=self.tasks_done, tasks_failed=self.tasks_failed
            )
            worker = replace(worker, message=message)
        return worker if self.pod else replace(worker, pod=None, node=None, service_id=None)


def exited(outcome: Outcome) -> Ending:
    return Ending(reason="Error", exit_code=outcome.exit_code)


KILLED = Ending(reason="Error", exit_code=137)
OUT_OF_TIME = replace(KILLED, job_reason="DeadlineExceeded")
OWN_LIMIT = (
    'Usage of EmptyDir volume "scratch" exceeds the limit "50Gi". ',
    'Container worker exceeded its local ephemeral storage limit "50Gi". ',
    "Pod ephemeral local storage usage exceeds the total limit of containers 50Gi. ",
)
OOM = Ending(reason="OOMKilled", exit_code=137)


def start_error(words: str) -> Ending:
    return Ending(reason="StartError", exit_code=128, words=words)


def rejected(reason: str, words: str = "") -> Ending:
    return Ending(pod_reason=reason, words=words)


BY_ITS_OWN_WORD = {
    Outcome.DONE: Blame.NOBODY,
    Outcome.NOTHING_TO_DO: Blame.NOBODY,
    Outcome.DEVICE_UNFIT: Blame.NODE,
    Outcome.IMAGE_UNFIT: Blame.POOL,
    Outcome.CREDENTIALS_REFUSED: Blame.POOL,
    Outcome.SETTINGS_INVALID: Blame.POOL,
    Outcome.API_UNREACHABLE: Blame.SERVER,
    Outcome.MANAGER_UNKNOWN: Blame.SERVER,
    Outcome.DENIED: Blame.SERVER,
    Outcome.REGISTRATION_LOST: Blame.SERVER,
    Outcome.TASK_CRASHED: Blame.TASK,
    Outcome.PUSH_AMBIGUOUS: Blame.SERVER,
    Outcome.TASK_UNUSABLE: Blame.TASK,
    Outcome.INTERNAL_ERROR: Blame.POOL,
    Outcome.TERMINATED: Blame.HOST,
}


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome.is_end])
def test_a_worker_s_own_word_says_whose_fault(outcome: Outcome) -> None:
    end = End(BY_ITS_OWN_WORD[outcome], outcome, exited(outcome))
    assert blame(end.worker()) is end.blamed


@pytest.mark.parametrize("outcome", [None, *Outcome])
def test_nobody_is_blamed_for_a_success(outcome: Outcome | None) -> None:
    assert blame(make_worker("Succeeded", outcome=outcome)) is Blame.NOBODY


BLAMED = {
    "killed for its memory while it held a Task": End(Blame.TASK, Outcome.HOLDING, OOM),
    "killed while it held a Task": End(Blame.TASK, Outcome.HOLDING, KILLED),
    "killed while it sent a result: the Task was done": End(Blame.HOST, Outcome.PUSHING, KILLED),
    "killed for its memory while it sent a result": End(Blame.HOST, Outcome.PUSHING, OOM),
    "killed for its memory before a claim": End(Blame.POOL, None, OOM),
    "evicted for the node's memory while it held a Task": End(
        Blame.HOST,
        Outcome.HOLDING,
        Ending(reason="Error", exit_code=137, pod_reason="Evicted", words="low on memory"),
    ),
    "evicted before it started": End(Blame.HOST, None, rejected("Evicted", "low on disk")),
    "preempted: DisruptionTarget, killed after its grace": End(
        Blame.HOST, Outcome.HOLDING, replace(KILLED, disrupted=True)
    ),
    "drained, and told to go in time": End(
        Blame.HOST, Outcome.TERMINATED, replace(exited(Outcome.TERMINATED), disrupted=True)
    ),
    "collected by the garbage collector of pods, its node lost": End(
        Blame.HOST, Outcome.HOLDING, Ending(disrupted=True)
    ),
    "its node rebooted while it held a Task": End(
        Blame.HOST, Outcome.HOLDING, Ending(reason="Unknown", exit_code=255)
    ),
    "its node rebooted before a claim": End(
        Blame.HOST, None, Ending(reason="ContainerStatusUnknown", exit_code=137)
    ),
    "its node rebooted after its last word": End(
        Blame.TASK, Outcome.TASK_CRASHED, Ending(reason="Unknown", exit_code=255)
    ),
    "its node lost": End(Blame.HOST, Outcome.HOLDING, rejected("NodeLost")),
    "its node shut down": End(
        Blame.HOST,
        Outcome.HOLDING,
        rejected("Terminated", "Pod was terminated in response to imminent node shutdown."),
    ),
    "its node shut down, in the words of older kubelets": End(
        Blame.HOST, None, rejected("NodeShutdown")
    ),
    "preempted by the kubelet for a critical pod": End(Blame.HOST, None, rejected("Preempting")),
    "rejected by the device plugin": End(
        Blame.NODE,
        None,
        rejected(
            "UnexpectedAdmissionError",
            "Allocate failed due to no healthy devices present; cannot allocate unhealthy devices "
            "nvidia.com/gpu, which is unexpected",
        ),
    ),
    "rejected for want of a GPU": End(Blame.NODE, None, rejected("OutOfnvidia.com/gpu")),
    "rejected for want of CPU": End(Blame.NODE, None, rejected("OutOfcpu")),
    "rejected for the topology of its devices": End(
        Blame.NODE, None, rejected("TopologyAffinityError")
    ),
    "rejected since the node's labels changed": End(Blame.NODE, None, rejected("NodeAffinity")),
    "an image without the worker": End(
        Blame.POOL,
        None,
        start_error(
            "failed to create containerd task: failed to create shim task: OCI runtime create "
            'failed: runc create failed: unable to start container process: exec: "computepool-'
            'worker": executable file not found in $PATH: unknown'
        ),
    ),
    "an image for another machine, say": End(
        Blame.POOL, None, start_error("exec /entrypoint: no such file or directory")
    ),
    "an image whose worker may not be executed": End(
        Blame.POOL, None, start_error('exec: "computepool-worker": permission denied')
    ),
    "a broken runtime of the node's GPUs": End(
        Blame.NODE,
        None,
        start_error(
            "failed to create shim task: OCI runtime create failed: nvidia-container-cli: "
            "initialization error: nvml error: driver not loaded: unknown"
        ),
    ),
    "the same in the words of another runtime": End(
        Blame.NODE, None, Ending(reason="ContainerCannotRun", exit_code=128, words="nvml error")
    ),
    # What a Task does again and again must be held against it, or it is rerun for ever.
    "out of time by the Job's own deadline, killed": End(Blame.TASK, Outcome.HOLDING, OUT_OF_TIME),
    "out of time, and told to go in time": End(
        Blame.TASK,
        Outcome.TERMINATED,
        replace(exited(Outcome.TERMINATED), job_reason="DeadlineExceeded", disrupted=True),
    ),
    "out of time by the pod's own deadline": End(
        Blame.TASK, Outcome.HOLDING, rejected("DeadlineExceeded", "Pod was active too long")
    ),
    "out of time in its second Task": End(Blame.HOST, Outcome.HOLDING, OUT_OF_TIME, tasks_done=1),
    "out of time in its second Task, the first having failed": End(
        Blame.HOST, Outcome.HOLDING, OUT_OF_TIME, tasks_failed=1
    ),
    "out of time before a claim": End(Blame.HOST, None, OUT_OF_TIME),
    "out of time while it sent a result": End(Blame.HOST, Outcome.PUSHING, OUT_OF_TIME),
    "out of time, its pod gone before anything was learnt": End(
        Blame.HOST, None, Ending(job_reason="DeadlineExceeded"), pod=False
    ),
    **{
        f"evicted, {words!r}, {when}": End(
            blamed, said, replace(KILLED, pod_reason="Evicted", words=words)
        )
        for words in OWN_LIMIT
        for when, said, blamed in (
            ("while it held a Task", Outcome.HOLDING, Blame.TASK),
            ("told to go while it held one", Outcome.TERMINATED, Blame.TASK),
            ("as its process died of it", Outcome.TASK_CRASHED, Blame.TASK),
            ("before a claim", None, Blame.POOL),
            ("while it sent a result", Outcome.PUSHING, Blame.HOST),
        )
    },
    "evicted for the node's disk, its own use named": End(
        Blame.HOST,
        Outcome.HOLDING,
        replace(
            KILLED,
            pod_reason="Evicted",
            words="The node was low on resource: ephemeral-storage. Container worker was using "
            "90Gi, request is 0, has larger consumption of ephemeral-storage. ",
        ),
    ),
    "its pod gone, nothing known": End(Blame.HOST, None, Ending(), pod=False),
    "its pod gone, the Job says that it failed": End(
        Blame.HOST, None, Ending(job_reason="BackoffLimitExceeded"), pod=False
    ),
    "exit code 1 without a message": End(Blame.POOL, None, Ending(reason="Error", exit_code=1)),
    "killed before a claim, without a message": End(Blame.POOL, None, KILLED),
    "no message, but the exit code of an unfit device": End(
        Blame.NODE, None, exited(Outcome.DEVICE_UNFIT)
    ),
    "no message, but the exit code of a refused key": End(
        Blame.POOL, None, exited(Outcome.CREDENTIALS_REFUSED)
    ),
    "the last word still that it holds a Task, the exit code that it was told to go": End(
        Blame.HOST, Outcome.HOLDING, exited(Outcome.TERMINATED)
    ),
    "the last word still that it holds a Task, the exit code that it crashed": End(
        Blame.TASK, Outcome.HOLDING, exited(Outcome.TASK_CRASHED)
    ),
    "no ending at all": End(Blame.POOL, None),
}


@table(BLAMED)
def test_blamed_is(case: End) -> None:
    assert blame(case.worker()) is case.blamed


@dataclass(frozen=True)
class Told:
    """Of this worker this is told."""

    worker: Worker
    story: str


def failed(said: Outcome | None = None, detail: str = "", **ending: object) -> Worker:
    worker = make_worker("Failed", outcome=said, ending=Ending(**ending))  # type: ignore[arg-type]
    if worker.message is None:
        return worker
    return replace(worker, message=replace(worker.message, detail=detail))


WHERE = "a100-x-pod on node-1: "

STORIES = {
    "what it said itself": Told(
        failed(Outcome.DEVICE_UNFIT, "no CUDA device", reason="Error", exit_code=10),
        WHERE + "DeviceUnfit: no CUDA device",
    ),
    "how it was killed, where it only said what it held": Told(
        failed(Outcome.HOLDING, reason="OOMKilled", exit_code=137),
        WHERE + "OOMKilled exit code 137",
    ),
    "the same while it sent a result": Told(
        failed(Outcome.PUSHING, reason="Error", exit_code=137), WHERE + "Error exit code 137"
    ),
    "why its pod was rejected": Told(
        failed(pod_reason="OutOfnvidia.com/gpu", words="Node didn't have enough resource"),
        WHERE + "OutOfnvidia.com/gpu: Node didn't have enough resource",
    ),
    "that the Job was out of time": Told(
        failed(Outcome.HOLDING, exit_code=137, job_reason="DeadlineExceeded"),
        WHERE + "exit code 137: DeadlineExceeded",
    ),
    "what its container wrote, where that is no message": Told(
        failed(reason="Error", exit_code=1, words="ModuleNotFoundError: httpx"),
        WHERE + "Error exit code 1: ModuleNotFoundError: httpx",
    ),
    "that nothing is known": Told(failed(), WHERE + "it left no word"),
    "the Job's name, where there is no pod": Told(
        replace(failed(), pod=None, node=None), "a100-x on no node: it left no word"
    ),
}


@table(STORIES)
def test_the_story_tells(case: Told) -> None:
    assert story(case.worker) == case.story


def test_a_story_is_short_enough_for_the_status() -> None:
    assert len(story(failed(words="x" * 5000))) <= 1000
