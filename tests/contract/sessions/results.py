"""Pushing results, in all their odd rows."""

from ..recordings import cases, example
from ..replay import Replay
from ..session import Session, Step
from .services import recorded_chain

_PUSHED = "Task-b93037d9f76949f581fd22e24b6ad191-rig-c-p"
_FIRST = "svc-4d8ef05d9a8e495cadb32a94438d6a1e"
_LEAVES = "svc-f6ec1d8e61764d268c029dd55e2c7ef4"
_ODD = "svc-9e37450cba2f43e5a11eddf93b198099"
_FOREIGN = "svc-95422f593188489d9d70c18b9bf47aab"
_PARTIAL = "svc-e3e633c883424b92a57fb922ca17ef13"
_MISC = "svc-7a4709fb6c354bb1aad19177b9472250"
_HAND_MADE = "svc-88fddc3c4db546ef879b32730ce50720"
_RESTARTED = "Task-451eeba61e0a4bb58607e4aeb42f8eef-res-a-b"
_RESTARTING = "svc-22b1b4cad4f34c8495e5537449d28321"
_EXTENDED_TWICE = "svc-fe5bec1463cc40bbbcf428bf2a86365b"
_EXTENDED_FAILED = "svc-845ef8bc69e64bdc9d94fd81f2171aa0"
_EXTENDED_ONCE = "svc-9eb0aee2da2b4ab4b4aac83118befdba"


def _task_of(case: str) -> str:
    """The recorded key of the Task a case is about."""
    return cases()[case].path.split("/")[2]


def running(case: str, service: str, *, register: bool = False) -> Step:
    """Let the case's Task be claimed by a service, which is registered first if so told."""

    def prepare(replay: Replay) -> None:
        _ = replay.admin
        if register:
            replay.register(service)
        replay.running(_task_of(case), service=service)

    return prepare


def _fetched_waiting(replay: Replay) -> None:
    case = "transformation-gufe-waiting-task"
    replay.waiting(_task_of(case), chain=recorded_chain(case))


def _failing(replay: Replay) -> None:
    chain = recorded_chain("transformation-gufe-errored-task")
    replay.running(_task_of("results-failed"), service=_FIRST, chain=chain)


def _taken_over(case: str, first: str, second: str) -> Step:
    """The Task was the first service's, which deregistered, and is the second's now."""

    def prepare(replay: Replay) -> None:
        _ = replay.admin
        replay.register(first, second)
        replay.running(_task_of(case), service=first)
        replay.call(f"/computeservice/{first}/deregister")
        replay.claim(_task_of(case), second)

    return prepare


def _withdrawn(case: str, status: str, service: str, *, register: bool) -> Step:
    """A user has set the running Task to invalid or deleted."""

    def prepare(replay: Replay) -> None:
        _ = replay.admin
        if register:
            replay.register(service)
        key = _task_of(case)
        fetched = "transformation-gufe-deleted-task"
        chain = {"chain": recorded_chain(fetched)} if key == _task_of(fetched) else {}
        replay.running(key, service=service, **chain)
        replay.admin.set_task_status(replay.binding.live(key), status)

    return prepare


def _leaving(replay: Replay) -> None:
    _ = replay.admin
    replay.register(_LEAVES)
    replay.running(_task_of("results-ok-on-waiting-after-deregister"), service=_LEAVES)


def _foreign(replay: Replay) -> None:
    case = "transformation-gufe-protocol-not-importable-by-server"
    replay.admin.set(unimportable_modules=["foreign_proto"])
    replay.register(_FOREIGN)
    replay.running(_task_of(case), service=_FOREIGN, chain=recorded_chain(case))


def _another_foreign(replay: Replay) -> None:
    key = "Task-782ffc98f4ef4b679939ea42df007551-for-a-b"
    replay.waiting(key, protocol="ForeignProtocol", module="foreign_proto")


def _parent_and_child(parent_case: str, child_case: str, service: str) -> Step:
    """A running parent, and a child that waits for it."""

    def prepare(replay: Replay) -> None:
        _ = replay.admin
        replay.register(service)
        parent = _task_of(parent_case)
        replay.running(parent, service=service, chain=example("transformation_gufe.json")[0])
        replay.waiting(_task_of(child_case), extends=replay.binding.live(parent))

    return prepare


def _claimed(case: str, service: str) -> Step:
    """The case's Task is claimed (again)."""
    return lambda replay: replay.claim(_task_of(case), service)


def _retried(replay: Replay) -> None:
    """A user has set the failed Task to waiting, and it was claimed again."""
    key = _task_of("results-extends-parent-then-ok")
    replay.admin.set_task_status(replay.binding.live(key), "waiting")
    replay.claim(key, _EXTENDED_FAILED)


def _with_restart_pattern(replay: Replay) -> None:
    _ = replay.admin
    replay.register(_RESTARTING)
    [key] = replay.waiting(_RESTARTED)
    [hub] = replay.admin.task(key).hubs
    replay.admin.add_restart_pattern(hub, "ValueError", 2)
    replay.claim(_RESTARTED, _RESTARTING)


def _held_manager(replay: Replay) -> None:
    replay.call("/computemanager/mgr-00000000000000000000000000000000/register")


def _not_transformation(replay: Replay) -> None:
    case = "transformation-gufe-nontransformation"
    replay.waiting(_task_of(case), chain=recorded_chain(case))


def _priorities(replay: Replay) -> None:
    """Three Tasks on one hub, the most urgent (lowest number) added in between."""
    first, second, third = (cases()[f"claim-priority-{n}"].answer[0] for n in range(3))
    for key, priority in ((second, 5), (first, 1), (third, 10)):
        replay.waiting(key, priority=priority, hubs=["default"])


def _hand_made(replay: Replay) -> None:
    _ = replay.admin
    replay.register(_HAND_MADE)
    replay.running(_task_of("results-hand-made-bytes-single-zstd"), service=_HAND_MADE)


SESSIONS = (
    Session(
        "results",
        "transformation-gufe-waiting-task",
        "results-failed-with-restart-pattern-2",
        before={
            "transformation-gufe-waiting-task": _fetched_waiting,
            "results-ok-gzip": running("results-ok-gzip", _FIRST, register=True),
            "results-ok-not-gzipped": running("results-ok-not-gzipped", _FIRST),
            "results-failed": _failing,
            "results-setup-deregister": _leaving,
            "results-ok-from-A-while-B-holds-claim": _taken_over(
                "results-ok-from-A-while-B-holds-claim",
                "svc-4a3c0586557b4c02b41f32b24c95909a",
                "svc-f4ae53b2554c4f3594cf08f15122c1d9",
            ),
            "results-failed-from-A-while-B-holds-claim": _taken_over(
                "results-failed-from-A-while-B-holds-claim",
                "svc-28d6853f3555486b8e76e38eccdb6fe1",
                "svc-284eefbacf6d4812ad999015169ebb0c",
            ),
            "results-ok-on-invalid-task": _withdrawn(
                "results-ok-on-invalid-task",
                "invalid",
                "svc-25dcfc8275624db88c31cbacc174d12b",
                register=True,
            ),
            "results-ok-on-deleted-task": _withdrawn(
                "results-ok-on-deleted-task",
                "deleted",
                "svc-25dcfc8275624db88c31cbacc174d12b",
                register=False,
            ),
            "results-garbage-text": running("results-garbage-text", _ODD, register=True),
            "results-service-id-null": running("results-service-id-null", _ODD),
            "results-service-id-unknown-ok": running("results-service-id-unknown-ok", _ODD),
            "results-service-id-unknown-failed": running("results-service-id-unknown-failed", _ODD),
            "results-zstd-level-19": running("results-zstd-level-19", _ODD),
            "transformation-gufe-protocol-not-importable-by-server": _foreign,
            "claim-protocol-not-importable": _another_foreign,
            "results-extends-exone-parent-push-0": _parent_and_child(
                "results-extends-exone-parent-push-0", "transformation-gufe-extends", _EXTENDED_ONCE
            ),
            "results-extends-child-ok": _claimed("results-extends-child-ok", _EXTENDED_ONCE),
            "results-extends-extwo-parent-push-0": _parent_and_child(
                "results-extends-extwo-parent-push-0",
                "transformation-gufe-extends-parent-with-two-results",
                _EXTENDED_TWICE,
            ),
            "results-extends-parent-with-two-results": _claimed(
                "results-extends-parent-with-two-results", _EXTENDED_TWICE
            ),
            "results-extends-parent-fails-first": _parent_and_child(
                "results-extends-parent-fails-first",
                "transformation-gufe-extends-parent-failed-once-then-ok",
                _EXTENDED_FAILED,
            ),
            "results-extends-parent-then-ok": _retried,
            "results-failed-with-restart-pattern-0": _with_restart_pattern,
            "results-failed-with-restart-pattern-1": _claimed(
                "results-failed-with-restart-pattern-1", _RESTARTING
            ),
            "results-failed-with-restart-pattern-2": _claimed(
                "results-failed-with-restart-pattern-2", _RESTARTING
            ),
        },
        services={"*": _ODD, "results-protocol-not-importable-by-server": _FOREIGN},
        subjects={
            "results-setup-deregister": _task_of("results-ok-on-waiting-after-deregister"),
            "results-unknown-task": _task_of("results-garbage-text"),
            "results-malformed-task": _task_of("results-garbage-text"),
        },
    ),
    Session(
        "results, continued",
        "results-not-ok-without-any-unit-failure",
        "claim-priority-2",
        before={
            "results-not-ok-without-any-unit-failure": running(
                "results-not-ok-without-any-unit-failure", _PARTIAL, register=True
            ),
            "results-failure-with-empty-traceback": running(
                "results-failure-with-empty-traceback", _PARTIAL
            ),
            "results-failure-synthetic-with-traceback": running(
                "results-failure-synthetic-with-traceback", _PARTIAL
            ),
            "results-large-8MB": running("results-large-8MB", _PARTIAL),
            "mgr-register-steal-true-as-text-plain": _held_manager,
            "results-json-not-ascii-escaped": running(
                "results-json-not-ascii-escaped", _MISC, register=True
            ),
            "results-hand-made-bytes-object": running("results-hand-made-bytes-object", _MISC),
            "transformation-gufe-nontransformation": _not_transformation,
            "claim-priority-0": _priorities,
        },
        services={"*": _MISC},
    ),
    Session(
        "results in bytes made by hand",
        "results-hand-made-bytes-single-zstd",
        "results-hand-made-bytes-double-zstd",
        before={"results-hand-made-bytes-single-zstd": _hand_made},
        services={"*": _HAND_MADE},
    ),
)
