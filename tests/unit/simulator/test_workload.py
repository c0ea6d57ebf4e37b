"""Hubs, Tasks and claims."""

from collections import Counter

import pytest

from simulator.documents import (
    encode_document,
    failed_document,
    ok_document,
    push_body,
)
from simulator.errors import BrokenError, RefusedError
from simulator.records import Task, TaskStatus
from simulator.scopes import Scope
from simulator.settings import Settings
from simulator.tokens import TokenData

from .conftest import EVERYTHING, Bench

TRACEBACK = "Traceback (most recent call last):\nValueError: nope"


def push(bench: Bench, task: Task, *, ok: bool, service: str | None) -> None:
    key = task.transformation.key
    if ok:
        document = ok_document(task.key, key, new_id=bench.new_id)
    else:
        document = failed_document(task.key, key, new_id=bench.new_id, traceback=TRACEBACK)
    bench.store.push(task.key, push_body(encode_document(document), service), EVERYTHING)


def count(bench: Bench, *scopes: str, protocols: tuple[str, ...] = ()) -> int:
    return bench.store.workload.count_waiting([Scope.parse(s) for s in scopes], protocols)


# what an instruction counts


def test_a_task_on_two_hubs_counts_once(bench: Bench) -> None:
    bench.tasks(3, hubs=("one", "two"))
    assert count(bench, "*-*-*", "a-b-c") == 3


def test_tasks_on_no_hub_do_not_count(bench: Bench) -> None:
    bench.tasks(2, hubs=())
    assert count(bench, "*-*-*") == 0


def test_weights_of_zero_hide_tasks_from_claims_but_not_from_the_count(bench: Bench) -> None:
    [hidden] = bench.tasks(weight=0.0)
    bench.store.workload.hub(Scope("a", "b", "c"), "default").weight = 0.0
    assert count(bench, "*-*-*") == 1
    assert bench.claim(bench.service()) == [], hidden.key
    assert bench.store.workload.draw_hub(list(bench.store.workload.hubs.values())) is None


def test_running_tasks_do_not_count(bench: Bench) -> None:
    bench.tasks(2)
    bench.claim(bench.service())
    assert count(bench, "*-*-*") == 1


@pytest.mark.parametrize(
    ("parent_status", "counted"),
    [(status, status is TaskStatus.COMPLETE) for status in TaskStatus],
)
def test_a_child_waits_for_its_parent(
    bench: Bench, parent_status: TaskStatus, counted: bool
) -> None:
    [parent] = bench.tasks(scope="p-b-c")
    [child] = bench.tasks(extends=parent)
    parent.status = parent_status
    assert (count(bench, "a-*-*") == 1) is counted
    assert (bench.claim(bench.service()) == [child.key]) is counted


@pytest.mark.parametrize(
    ("protocols", "counted"),
    [
        pytest.param((), 3, id="no filter"),
        pytest.param(("Fast",), 2, id="one"),
        pytest.param(("Fast", "Slow"), 3, id="any of two"),
        pytest.param(("fast",), 0, id="case matters"),
        pytest.param(("GufeTokenizable",), 3, id="the label that all have"),
        pytest.param(("NonTransformation",), 0, id="the transformation is not its own dependency"),
    ],
)
def test_protocols(bench: Bench, protocols: tuple[str, ...], counted: int) -> None:
    bench.tasks(2, protocol="Fast")
    bench.tasks(1, protocol="Slow")
    assert count(bench, "*-*-*", protocols=protocols) == counted


@pytest.mark.parametrize("name", ["a.b", "a-b", "", "1a"])
def test_odd_protocol_names_break_the_server_if_any_scope_is_left(bench: Bench, name: str) -> None:
    with pytest.raises(BrokenError):
        count(bench, "*-*-*", protocols=(name,))
    assert count(bench, protocols=(name,)) == 0


# claims


def test_urgent_tasks_go_first_and_a_claim_takes_what_there_is(bench: Bench) -> None:
    [late] = bench.tasks(priority=20)
    [urgent] = bench.tasks(priority=1)
    [normal] = bench.tasks(priority=10)
    service = bench.service()
    assert bench.claim(service, 2) == [urgent.key, normal.key]
    assert bench.claim(service, 2) == [late.key]
    assert bench.claim(service, 2) == []


def test_within_a_priority_heavier_tasks_are_drawn_more_often(bench: Bench) -> None:
    [heavy] = bench.tasks(weight=0.9)
    [light] = bench.tasks(weight=0.1)
    hub = bench.store.workload.hub(Scope("a", "b", "c"), "default").key
    drawn = Counter(bench.store.workload.select(hub, 1, None)[0] for _ in range(500))
    assert 400 < drawn[heavy.key] < 490
    assert drawn[light.key] == 500 - drawn[heavy.key]


def test_heavier_hubs_are_drawn_more_often(bench: Bench) -> None:
    workload = bench.store.workload
    hubs = [workload.hub(Scope("a", "b", "c"), name) for name in ("heavy", "light")]
    hubs[0].weight, hubs[1].weight = 0.9, 0.1
    drawn = Counter(hub.key for _ in range(500) if (hub := workload.draw_hub(hubs)))
    assert 400 < drawn[hubs[0].key] < 490


def test_an_empty_list_of_protocols_breaks_a_claim(bench: Bench) -> None:
    with pytest.raises(BrokenError):
        bench.store.workload.select("any hub", 1, [])


def test_an_unregistered_service_is_given_tasks_that_it_does_not_hold(bench: Bench) -> None:
    [task] = bench.tasks()
    assert bench.claim(bench.id("stranger")) == [task.key]
    assert (task.status, task.claimed_by) == (TaskStatus.WAITING, None)


def test_claims_through_two_hubs_hand_out_the_same_task_but_the_first_holds_it(
    bench: Bench,
) -> None:
    [task] = bench.tasks(hubs=("one", "two"))
    first, second = bench.service("first"), bench.service("second")
    workload = bench.store.workload
    selected = [workload.select(workload.hub(task.scope, h).key, 1, None) for h in ("one", "two")]
    assert selected == [[task.key], [task.key]]
    bench.store.finish_hub_claim(selected[0], first)
    bench.store.finish_hub_claim(selected[1], second)
    assert task.claimed_by == first


@pytest.mark.parametrize(
    ("scopes", "excluded", "visible"),
    [
        pytest.param(["*-*-*"], [], ["a-b-c", "a-d-e", "x-y-z"], id="everything"),
        pytest.param([], [], [], id="no scopes, no hubs"),
        pytest.param(["a-*-*"], [], ["a-b-c", "a-d-e"], id="an org"),
        pytest.param(["a-*-*", "a-b-*"], ["a-d-*"], ["a-b-c"], id="all but a campaign"),
        pytest.param(["x-y-z"], ["*-*-*"], [], id="all excluded"),
    ],
)
def test_scopes_of_a_claim(
    bench: Bench, scopes: list[str], excluded: list[str], visible: list[str]
) -> None:
    for scope in ("a-b-c", "a-d-e", "x-y-z"):
        bench.tasks(scope=scope)
    wanted, unwanted = ([Scope.parse(text) for text in texts] for texts in (scopes, excluded))
    hubs = bench.store.claimable_hubs(wanted, unwanted, EVERYTHING)
    assert [str(hub.scope) for hub in hubs] == visible


def test_a_caller_sees_no_hub_outside_its_scopes(bench: Bench) -> None:
    for scope in ("a-b-c", "a-d-e", "x-y-z"):
        bench.tasks(scope=scope)
    caller = TokenData("limited", ("a-b-*", "x-y-z"))
    hubs = bench.store.claimable_hubs([Scope("a"), Scope("q")], [], caller)
    assert [str(hub.scope) for hub in hubs] == ["a-b-c"]


def test_old_servers_ignore_exclusions(bench: Bench) -> None:
    bench.tasks()
    bench.store.settings = Settings(obeys_scopes_exclude=False)
    assert len(bench.store.claimable_hubs([Scope()], [Scope()], EVERYTHING)) == 1


# results


@pytest.mark.parametrize(
    ("before", "ok", "after"),
    [
        pytest.param("running", True, "complete", id="the ordinary case"),
        pytest.param("running", False, "error", id="a failure"),
        pytest.param("waiting", True, "waiting", id="too late: it will run again"),
        pytest.param("waiting", False, "waiting", id="a late failure of a waiting Task"),
        pytest.param("error", True, "error", id="nothing good comes of an error"),
        pytest.param("error", False, "error", id="another failure"),
        pytest.param("complete", True, "complete", id="pushed twice"),
        pytest.param("complete", False, "complete", id="a failure of a complete Task"),
        pytest.param("invalid", True, "invalid", id="withdrawn"),
        pytest.param("invalid", False, "invalid", id="withdrawn and failed"),
        pytest.param("deleted", True, "deleted", id="deleted"),
        pytest.param("deleted", False, "deleted", id="deleted and failed"),
    ],
)
def test_what_a_result_makes_of_a_task(bench: Bench, before: str, ok: bool, after: str) -> None:
    service = bench.service()
    [task] = bench.tasks()
    if before != "waiting":
        bench.claim(service)
    if before in {"invalid", "deleted"}:
        bench.store.workload.set_status(task, TaskStatus(before))
    elif before in {"complete", "error"}:
        push(bench, task, ok=before == "complete", service="someone else")
    entries = len(task.results)
    push(bench, task, ok=ok, service=service)
    assert task.status == after
    assert task.claimed_by is None
    assert len(task.results) == entries + 1
    assert task.results[-1].creator == service
    assert len(bench.store.registry.services[service].failures) == (0 if ok else 1)
    hub = bench.store.workload.hub(task.scope, "default")
    assert (task.key in hub.actions) is (after in {"waiting", "error"})


def test_a_late_failure_destroys_the_new_holders_claim(bench: Bench) -> None:
    first, second = bench.service("first"), bench.service("second")
    [task] = bench.tasks()
    bench.claim(first)
    bench.store.deregister_service(first)
    assert bench.claim(second) == [task.key]
    push(bench, task, ok=False, service=first)
    push(bench, task, ok=True, service=second)
    assert (task.status, task.claimed_by) == (TaskStatus.ERROR, None)


def test_several_results_of_a_parent_make_its_child_unusable(bench: Bench) -> None:
    [parent] = bench.tasks()
    bench.claim(bench.service())
    [child] = bench.tasks(extends=parent)
    push(bench, parent, ok=True, service=None)
    [_, previous] = bench.store.transformation(child.key, EVERYTHING)
    assert previous.encode("latin-1") == parent.results[0].blob
    push(bench, parent, ok=True, service=None)
    for operation in (bench.store.transformation, bench.store.transformation_key):
        with pytest.raises(BrokenError):
            operation(child.key, EVERYTHING)
    with pytest.raises(BrokenError):
        push(bench, child, ok=True, service=None)
    assert child.results == []


@pytest.mark.parametrize("traceback", [None, ""])
def test_a_failure_without_traceback_is_stored_and_then_breaks(
    bench: Bench, traceback: str | None
) -> None:
    service = bench.service()
    [task] = bench.tasks()
    bench.claim(service)
    document = failed_document(
        task.key, task.transformation.key, new_id=bench.new_id, traceback=traceback or ""
    )
    if traceback is None:
        key, _ = document.pop(1)
        document[-1][1]["protocol_unit_results"].remove({":gufe-key:": key})
    with pytest.raises(BrokenError):
        bench.store.push(task.key, push_body(encode_document(document), service), EVERYTHING)
    assert (task.status, task.claimed_by) == (TaskStatus.RUNNING, service)
    assert [entry.ok for entry in task.results] == [False]
    assert bench.store.registry.services[service].failures == []


def test_a_matching_pattern_lets_a_task_run_again_until_its_retries_are_used(bench: Bench) -> None:
    [task] = bench.tasks(hubs=("default", "other"))
    service = bench.service()
    hub = bench.store.workload.hub(task.scope, "default")
    bench.store.workload.add_restart_pattern(hub, "ValueError", 2)
    statuses = []
    for _ in range(3):
        bench.claim(service)
        push(bench, task, ok=False, service=service)
        statuses.append(task.status)
    assert statuses == [TaskStatus.WAITING, TaskStatus.WAITING, TaskStatus.ERROR]
    assert task.key not in hub.actions
    assert task.key in bench.store.workload.hub(task.scope, "other").actions


def test_no_matching_pattern_takes_a_task_off_the_hub(bench: Bench) -> None:
    [task] = bench.tasks()
    hub = bench.store.workload.hub(task.scope, "default")
    bench.store.workload.add_restart_pattern(hub, "KeyError", 2)
    bench.claim(bench.service())
    push(bench, task, ok=False, service=None)
    assert (task.status, hub.actions) == (TaskStatus.ERROR, {})


def test_a_task_outside_the_callers_scopes_is_refused(bench: Bench) -> None:
    [task] = bench.tasks()
    caller = TokenData("limited", ("x-y-z",))
    for operation in (bench.store.transformation, bench.store.transformation_key):
        with pytest.raises(RefusedError, match="Targeted scope 'a-b-c' not accessible") as raised:
            operation(task.key, caller)
        assert raised.value.status == 401


@pytest.mark.parametrize("key", ["zzz", "Task-0-a-b-c", "Task-0-a-b"])
def test_unknown_and_malformed_tasks_break_the_server(bench: Bench, key: str) -> None:
    with pytest.raises(BrokenError):
        bench.store.transformation(key, EVERYTHING)


# users


def test_withdrawing_a_task_takes_its_children_along(bench: Bench) -> None:
    [parent] = bench.tasks()
    [child] = bench.tasks(extends=parent)
    [grandchild] = bench.tasks(extends=child)
    bench.store.workload.set_status(parent, TaskStatus.INVALID)
    assert {t.status for t in (parent, child, grandchild)} == {TaskStatus.INVALID}
    assert bench.store.workload.hub(parent.scope, "default").actions == {}


@pytest.mark.parametrize("status", [TaskStatus.RUNNING, TaskStatus.COMPLETE, TaskStatus.ERROR])
def test_users_cannot_make_a_task_run_or_end(bench: Bench, status: TaskStatus) -> None:
    [task] = bench.tasks()
    with pytest.raises(ValueError, match="cannot set"):
        bench.store.workload.set_status(task, status)


def test_there_is_no_way_back_from_deleted(bench: Bench) -> None:
    [task] = bench.tasks()
    bench.store.workload.set_status(task, TaskStatus.DELETED)
    with pytest.raises(ValueError, match="stays so"):
        bench.store.workload.set_status(task, TaskStatus.WAITING)


def test_the_history_tells_a_tasks_life(bench: Bench) -> None:
    first, second = bench.service("first"), bench.service("second")
    [task] = bench.tasks()
    bench.claim(first)
    bench.store.deregister_service(first)
    bench.claim(second)
    push(bench, task, ok=True, service=second)
    assert [(event.event, event.service) for event in task.history] == [
        ("created", None),
        ("claimed", first),
        ("released", first),
        ("claimed", second),
        ("result stored", second),
        ("complete", None),
    ]
