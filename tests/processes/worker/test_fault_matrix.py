"""The fault matrix: what happens to the child, the server, the network or the pod, and when.

Each row is run with the real worker as a process, with a child process, against a simulator. What
it leaves is compared with the row: the exit code, the state of the Task, how many result entries it
has, how many registrations are left, how often the Task was computed, what is left in scratch and
in the spool. Where the row goes on with ``then``, a second worker with the same spool follows, as
the pool's next Job does.
"""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from processes.worker.harness import Pool, Worker, until

EXIT_KILLED = -9


@dataclass
class Scene:
    """What a row can act upon while its worker runs."""

    pool: Pool
    task: str
    worker: Worker

    def until_logged(self, event: str) -> None:
        until(lambda: self.worker.logged(event), what=f"{event} is logged")

    def until_struck(self) -> None:
        until(self.pool.struck, what="a fault has struck")


Act = Callable[[Scene], None]


@dataclass(frozen=True)
class Left:
    """What is there afterwards."""

    code: int
    status: str
    entries: int
    services: int = 0
    computed: int = 1
    spooled: int = 0
    scratch: bool = False


@dataclass(frozen=True)
class Row:
    story: str
    left: Left
    then: Left | None = None
    between: Act = lambda _: None
    behaviour: str = "ok"
    seconds: float = 0.0
    gated: bool = False  # the calculation goes on until `act` has been done
    stand_in: dict[str, Any] = field(default_factory=dict)
    faults: tuple[dict[str, Any], ...] = ()
    act: Act = lambda _: None
    settings: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)


def fault(endpoint: str, kind: str, **details: Any) -> tuple[dict[str, Any], ...]:
    return ({"endpoint": endpoint, "kind": kind, **details},)


def at(event: str, *acts: Act) -> Act:
    def act(scene: Scene) -> None:
        scene.until_logged(event)
        for one in acts:
            one(scene)

    return act


def at_fault(*acts: Act) -> Act:
    def act(scene: Scene) -> None:
        scene.until_struck()
        for one in acts:
            one(scene)

    return act


def send(number: signal.Signals) -> Act:
    return lambda scene: scene.worker.signal(number)


def forget(scene: Scene) -> None:
    """The server drops all registrations, as after a silence or when the operator says so."""
    scene.pool.forget_services()


def mend(scene: Scene) -> None:
    scene.pool.admin.clear_faults()


def mend_and_forget(scene: Scene) -> None:
    mend(scene)
    forget(scene)


def rotate_tokens(scene: Scene) -> None:
    scene.pool.admin.rotate_tokens()


def claim_elsewhere(scene: Scene) -> None:
    """Another worker gets the Task that this one has lost."""
    forget(scene)
    other = scene.pool.worker(name="another_worker").start()
    until(lambda: other.holding, what="another worker has the Task")
    other.signal(signal.SIGSTOP)  # and keeps it


def damage_spool(scene: Scene) -> None:
    for path in (scene.pool.directory / "spool").glob("Task-*/result.json"):
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])


def mend_device(scene: Scene) -> None:
    scene.pool.broken.unlink()


def kill_child(scene: Scene) -> None:
    (line,) = scene.worker.logged("worker.started")
    os.kill(int(line.rpartition("child=")[2]), signal.SIGKILL)


TERM, KILL = send(signal.SIGTERM), send(signal.SIGKILL)
CLAIMED = "task.executing"
WAITING = {"client_retry_base_seconds": 1.01, "client_retry_max_seconds": 0.01}
DONE_ONCE = Left(0, "complete", 1)
FAILED_ONCE = Left(0, "error", 1)
CHECKED = {"openmm_platform": "CUDA"}
FROM_SPOOL = Left(0, "complete", 1, computed=0)

CHILD = [
    Row("all is well", DONE_ONCE),
    Row("a protocol raises", FAILED_ONCE, behaviour="raise"),
    Row("the child segfaults", FAILED_ONCE, behaviour="segfault"),
    Row("the child aborts", FAILED_ONCE, behaviour="abort"),
    Row("the child is killed", FAILED_ONCE, behaviour="killed"),
    Row("the child exits", FAILED_ONCE, behaviour="exit", stand_in={"code": 7}),
    Row("the child dies once and is tried again", DONE_ONCE, behaviour="flaky",
        stand_in={"times": 1}, settings={"n_retries": 1}),
    Row("the child dies again and again", FAILED_ONCE, behaviour="segfault",
        settings={"n_retries": 2}),
    Row("the child dies and cannot write that down", Left(17, "waiting", 0),
        behaviour="segfault", stand_in={"fails_hard": True}),
    Row("the child hangs in silence", FAILED_ONCE, behaviour="hang",
        settings={"max_silence": 0.3}),
    Row("the child hangs, ignores SIGTERM, and is silent", FAILED_ONCE, behaviour="stubborn",
        settings={"max_silence": 0.3, "stop_grace": 0.2}),
    Row("the child hangs and the pod is stopped", Left(143, "waiting", 0), behaviour="hang",
        act=at(CLAIMED, TERM)),
    Row("the child ignores SIGTERM and the pod is stopped", Left(143, "waiting", 0),
        behaviour="stubborn", act=at(CLAIMED, TERM), settings={"stop_grace": 0.2}),
    Row("the child prints without end", DONE_ONCE, behaviour="flood",
        stand_in={"bytes": 20_000_000}),
    Row("the child leaves a process behind", DONE_ONCE, behaviour="fork"),
    Row("the child breaks the protocol of its pipe", FAILED_ONCE, behaviour="gibberish"),
    Row("the child cannot read the Task", Left(19, "waiting", 0), behaviour="refuse"),
    Row("the child's disk is full", Left(17, "waiting", 0), behaviour="refuse_host"),
    Row("the child says done and has lost the result", Left(17, "waiting", 0), behaviour="lose"),
    Row("the child is killed while its result is pushed", DONE_ONCE,
        faults=fault("results", "latency", seconds=1.5), act=at_fault(kill_child)),
    Row("a protocol raises on a device that stays fit", FAILED_ONCE, behaviour="raise",
        settings=CHECKED),
    Row("a protocol raises on a device that is not demanded", FAILED_ONCE, behaviour="break"),
    Row("the device breaks during the Task", Left(10, "waiting", 0), behaviour="break",
        settings=CHECKED),
    Row("the device breaks during the first of three Tasks", Left(10, "waiting", 0),
        behaviour="break", settings={**CHECKED, "max_tasks": 3}),
    Row("the device breaks and takes the child down", Left(10, "waiting", 0), behaviour="break",
        stand_in={"dies": True}, settings=CHECKED),
    Row("the pod is stopped while the device is looked at again", Left(143, "waiting", 0),
        behaviour="raise", environment={"COMPUTEPOOL_STANDIN_READY_SECONDS": "1"},
        settings=CHECKED, act=at("device.checked_again", TERM)),
    Row("the device is unfit", Left(10, "waiting", 0, computed=0),
        environment={"COMPUTEPOOL_STANDIN_READY": "unfit"}),
    Row("the driver takes the child down", Left(10, "waiting", 0, computed=0),
        environment={"COMPUTEPOOL_STANDIN_READY": "crash"}),
    Row("the driver hangs", Left(10, "waiting", 0, computed=0),
        environment={"COMPUTEPOOL_STANDIN_READY": "hang"},
        settings={"ready_timeout": 0.5, "stop_grace": 0.2}),
]  # fmt: skip

SERVER = [
    Row("the server answers 503 to a registration, once", DONE_ONCE,
        faults=fault("service_register", "status", status=503)),
    Row("the server is away at the start and is waited for", DONE_ONCE,
        faults=fault("service_register", "status", status=503, count=5), settings=WAITING),
    Row("the server is away at a claim and is waited for", DONE_ONCE,
        faults=fault("claim", "status", status=429, count=5), settings=WAITING),
    Row("the server is away at a fetch and is waited for", DONE_ONCE,
        faults=fault("transformation_gufe", "status", status=503, count=5), settings=WAITING),
    Row("the server stays away and is not waited for for ever", Left(13, "waiting", 0, computed=0),
        faults=fault("transformation_gufe", "status", status=503, count=None),
        settings={**WAITING, "client_max_retries": 1}),
    Row("the answer to a registration is lost", DONE_ONCE,
        faults=fault("service_register", "reset", when="after")),
    Row("the key is wrong", Left(11, "waiting", 0, computed=0), settings={"key": "wrong"}),
    Row("the manager is unknown", Left(14, "waiting", 0, computed=0),
        settings={"compute_manager_id": f"nobody-{'0' * 32}"}),
    Row("a claim meets a lock conflict", DONE_ONCE,
        faults=fault("claim", "status", status=500)),
    Row("the answer to a claim is lost", Left(13, "waiting", 0, computed=0),
        faults=fault("claim", "reset", when="after")),
    Row("the answer to a claim is cut", Left(13, "waiting", 0, computed=0),
        faults=fault("claim", "truncate", when="after")),
    Row("claims are denied", Left(15, "waiting", 0, computed=0),
        faults=fault("claim", "garbage", body="null")),
    Row("the Task is not given out", Left(19, "waiting", 0, computed=0),
        faults=fault("transformation_gufe", "status", status=500, count=None)),
    Row("the Task is out of scope", Left(19, "waiting", 0, computed=0),
        faults=fault("transformation_gufe", "status", status=401, count=None,
            body='{"detail": "Targeted scope not accessible"}')),
    Row("the Task arrives cut, once", DONE_ONCE,
        faults=fault("transformation_gufe", "truncate")),
    Row("heartbeats fail all the time", DONE_ONCE, seconds=0.3,
        faults=fault("service_heartbeat", "status", status=503, count=None),
        settings={"heartbeat_interval": 0.1}),
    Row("all tokens die during the calculation", DONE_ONCE, gated=True,
        act=at(CLAIMED, rotate_tokens)),
    Row("the registration is lost during the calculation", Left(16, "waiting", 0), gated=True,
        act=at(CLAIMED, forget)),
    Row("the Task was given to another meanwhile", Left(16, "running", 0, services=1),
        gated=True, act=at(CLAIMED, claim_elsewhere)),
    Row("a proxy answers the probe for a while", DONE_ONCE,
        faults=fault("check", "status", status=404)),
    Row("the probe of a short Task is not answered", Left(16, "waiting", 0),
        faults=fault("service_register", "status", status=503, skip=1)),
    Row("the probe of a short Task is carried out and not answered", Left(16, "waiting", 0),
        faults=fault("service_register", "reset", when="after", skip=1)),
    Row("the registration is lost and the probe is not answered", Left(16, "waiting", 0),
        gated=True, faults=fault("service_register", "reset", when="after", skip=1),
        act=at(CLAIMED, forget)),
    Row("the server is away when the result is there", Left(13, "waiting", 0),
        faults=fault("check", "status", status=503, count=None),
        settings={"result_patience": 0.1}),
    Row("a URL leads elsewhere from the start", Left(12, "waiting", 0, computed=0),
        faults=fault("service_register", "status", status=404, count=None),
        settings={**WAITING, "client_max_retries": 3}),
    Row("an ingress is made anew during a claim", DONE_ONCE,
        faults=fault("claim", "status", status=404, count=3), settings=WAITING),
    Row("an ingress is made anew during a fetch", DONE_ONCE,
        faults=fault("transformation_gufe", "status", status=404, count=3), settings=WAITING),
    Row("an ingress is gone for longer than anybody waits", Left(13, "waiting", 0, computed=0),
        faults=fault("claim", "status", status=404, count=None),
        settings={**WAITING, "client_max_retries": 2}),
    Row("an ingress is made anew during a push", DONE_ONCE,
        faults=fault("results", "status", status=404, body="<html>404</html>")),
    Row("a proxy forbids a push for a while", DONE_ONCE,
        faults=fault("results", "status", status=403, body="<html>403</html>")),
    Row("the server itself forbids a push", Left(12, "waiting", 0),
        faults=fault("results", "status", status=403, body='{"detail": "Not authenticated"}')),
    Row("a push is too large for a proxy", Left(12, "waiting", 0),
        faults=fault("results", "status", status=413)),
    Row("a token dies just before the push", DONE_ONCE,
        faults=fault("results", "status", status=401)),
    Row("a push is answered 500, nothing stored", Left(18, "waiting", 0),
        faults=fault("results", "status", status=500)),
    Row("a push is answered 500, stored", Left(18, "complete", 1),
        faults=fault("results", "status", status=500, when="after")),
    Row("a proxy times out during a push, stored", Left(18, "complete", 1),
        faults=fault("results", "status", status=504, when="after")),
    Row("the network breaks before a push is stored", Left(18, "waiting", 0),
        faults=fault("results", "reset")),
    Row("the network breaks after a push is stored", Left(18, "complete", 1),
        faults=fault("results", "reset", when="after")),
    Row("the answer to a push is cut", Left(18, "complete", 1),
        faults=fault("results", "truncate", when="after")),
    Row("a failed result's push breaks after it is stored", Left(18, "error", 1),
        behaviour="raise", faults=fault("results", "reset", when="after")),
    Row("the server does not let go", Left(0, "complete", 1, services=1),
        faults=fault("service_deregister", "status", status=503, count=None)),
]  # fmt: skip

POD = [
    Row("stopped while a server is waited for", Left(143, "waiting", 0, computed=0),
        faults=fault("claim", "status", status=429, count=None),
        settings={"client_max_retries": -1}, act=at("server.waited_for", TERM)),
    Row("stopped before a claim", Left(143, "waiting", 0, computed=0),
        act=at("worker.started", TERM)),
    Row("stopped while the claim is in flight", Left(143, "waiting", 0, computed=0),
        faults=fault("claim", "latency", seconds=1.5, when="after"), act=at_fault(TERM)),
    Row("stopped during the calculation", Left(143, "waiting", 0), seconds=60,
        act=at(CLAIMED, TERM)),
    Row("interrupted from a terminal", Left(143, "waiting", 0), seconds=60,
        act=at(CLAIMED, send(signal.SIGINT))),
    Row("stopped while the push is in flight", Left(143, "complete", 1),
        faults=fault("results", "latency", seconds=1.5), act=at_fault(TERM)),
    Row("stopped while a push hangs", Left(18, "running", 0, services=1),
        faults=fault("results", "hang"), act=at_fault(TERM),
        settings={"termination_grace": 8.3, "push_pause": 60}),
    Row("killed during the calculation", Left(EXIT_KILLED, "running", 0, services=1, scratch=True),
        seconds=60, act=at(CLAIMED, KILL)),
    Row("the scratch space cannot be used", Left(10, "waiting", 0, computed=0),
        settings={"scratch_basedir": "/proc/nowhere"}),
    Row("the spool cannot be used", Left(10, "waiting", 0, computed=0),
        settings={"spool_dir": "/proc/nowhere"}),
]  # fmt: skip

SPOOL = [
    Row("a push is answered 422: pushed by the next", Left(12, "waiting", 0, spooled=1),
        then=FROM_SPOOL, faults=fault("results", "status", status=422)),
    Row("a push is answered 500, nothing stored: pushed by the next", Left(18, "waiting", 0,
        spooled=1), then=FROM_SPOOL, faults=fault("results", "status", status=500)),
    Row("the network breaks before a push is stored: pushed by the next", Left(18, "waiting", 0,
        spooled=1), then=FROM_SPOOL, faults=fault("results", "reset")),
    Row("the network breaks after a push is stored: never pushed again", Left(18, "complete", 1,
        spooled=1), then=Left(0, "complete", 1, computed=0, spooled=1),
        faults=fault("results", "reset", when="after")),
    Row("the registration is lost: pushed by the next", Left(16, "waiting", 0, spooled=1),
        then=FROM_SPOOL, gated=True, act=at(CLAIMED, forget)),
    Row("the probe of a short Task is not answered: pushed by the next", Left(16, "waiting", 0,
        spooled=1), then=FROM_SPOOL, faults=fault("service_register", "status", status=503,
        skip=1)),
    Row("the server is away for too long: pushed by the next", Left(13, "waiting", 0, spooled=1),
        then=FROM_SPOOL, between=mend, faults=fault("check", "status", status=503, count=None),
        settings={"result_patience": 0.1}),
    Row("an ingress is gone for too long: pushed by the next", Left(13, "waiting", 0, spooled=1),
        then=FROM_SPOOL, between=mend, faults=fault("results", "status", status=404, count=None),
        settings={"result_patience": 0.1}),
    Row("stopped while the result waits: pushed by the next", Left(143, "waiting", 0, spooled=1),
        then=FROM_SPOOL, between=mend, faults=fault("check", "status", status=503, count=None),
        act=at("result.waiting", TERM)),
    Row("killed while the result waits: pushed by the next", Left(EXIT_KILLED, "running", 0,
        services=1, spooled=1, scratch=True), then=FROM_SPOOL, between=mend_and_forget,
        faults=fault("check", "status", status=503, count=None), act=at("result.waiting", KILL)),
    Row("killed during a push, nothing stored: pushed by the next", Left(EXIT_KILLED, "running", 0,
        services=1, spooled=1, scratch=True), then=FROM_SPOOL, between=mend_and_forget,
        faults=fault("results", "hang"), act=at_fault(KILL)),
    Row("killed during a push, stored: never pushed again", Left(EXIT_KILLED, "complete", 1,
        services=1, spooled=1, scratch=True),
        then=Left(0, "complete", 1, computed=0, spooled=1), between=mend_and_forget,
        faults=fault("results", "hang", when="after"), act=at_fault(KILL)),
    Row("stopped while a push hangs: pushed by the next", Left(18, "running", 0, services=1,
        spooled=1), then=FROM_SPOOL, between=mend_and_forget, faults=fault("results", "hang"),
        act=at_fault(TERM), settings={"termination_grace": 8.3, "push_pause": 60}),
    Row("killed during the calculation: computed by the next", Left(EXIT_KILLED, "running", 0,
        services=1, scratch=True), then=DONE_ONCE, between=mend_and_forget, gated=True,
        act=at(CLAIMED, KILL)),
    Row("a damaged entry: computed again", Left(18, "waiting", 0, spooled=1), then=DONE_ONCE,
        between=damage_spool, faults=fault("results", "reset")),
    Row("a failure of the device's: never pushed, run again", Left(10, "waiting", 0),
        then=FAILED_ONCE, between=mend_device, behaviour="break", settings=CHECKED),
    Row("a failure whose push broke: run again, not pushed again", Left(18, "waiting", 0,
        spooled=1), then=FAILED_ONCE, behaviour="raise", faults=fault("results", "reset")),
    Row("a failure that waits for the server: pushed by the next", Left(13, "waiting", 0,
        spooled=1), then=Left(0, "error", 1, computed=0), between=mend, behaviour="raise",
        faults=fault("check", "status", status=503, count=None),
        settings={"result_patience": 0.1}),
]  # fmt: skip


def standing(scene: Scene, worker: Worker) -> Left:
    """Look at what is there."""
    view = scene.pool.admin.task(scene.task)
    spool = scene.pool.directory / "spool"
    code = worker.running.returncode
    assert code is not None
    return Left(
        code=code,
        status=view.status,
        entries=len(view.results),
        services=len(scene.pool.admin.services()),
        computed=len(worker.logged(CLAIMED)),
        spooled=len(list(spool.iterdir())) if spool.is_dir() else 0,
        scratch=bool([path for path in worker.left_behind() if not path.startswith("state/")]),
    )


def assert_told(scene: Scene, code: int) -> None:
    """The termination message says what the exit code says, and of a killed worker what it held."""
    message = scene.worker.message()
    assert message is not None
    if code == EXIT_KILLED:
        assert not message.outcome.is_end
        assert message.task == scene.task
    else:
        assert message.outcome.exit_code == code


@pytest.mark.parametrize("row", [*CHILD, *SERVER, *POD, *SPOOL], ids=lambda row: row.story)
def test_the_fault_matrix(pool: Pool, row: Row) -> None:
    gate = pool.directory / "gate"
    stand_in = {
        "counter": str(pool.directory / "counter"),
        "broken": str(pool.broken),
        **row.stand_in,
    }
    if row.gated:
        stand_in["gate"] = str(gate)
    (task,) = pool.admin.add_tasks(
        1, behaviour=row.behaviour, seconds=row.seconds, stand_in=stand_in
    )
    for one in row.faults:
        pool.admin.fault(**one)
    settings: dict[str, Any] = {"spool_dir": str(pool.directory / "spool")} if row.then else {}
    worker = pool.worker(environment=row.environment, **{**settings, **row.settings})
    scene = Scene(pool, task, worker)
    worker.start()
    row.act(scene)
    gate.touch()
    worker.wait()
    assert standing(scene, worker) == row.left, worker.log()
    assert_told(scene, row.left.code)
    if row.then is None:
        return
    row.between(scene)
    successor = pool.worker(**settings)
    successor.run()
    assert standing(scene, successor) == row.then, successor.log()
