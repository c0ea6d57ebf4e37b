"""The child's main loop, with a science of plain Python."""

import io
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from computepool_worker.boundary import (
    Answer,
    Begun,
    Done,
    Execute,
    Fail,
    Message,
    Prepare,
    Ready,
    Refused,
    decode,
    encode,
)
from computepool_worker.child.loop import serve

REQUEST = Execute("Task-1", "/t.json", "/r.json", "/", "/", 0, False, False)
DONE = Done("Task-1", ok=True, units=1, failures=0, seconds=0.0)


class Science:
    def __init__(
        self,
        execute: Callable[[Execute], Done] = lambda _: DONE,
        prepare: Callable[[], Ready] = lambda: Ready(ok=True),
    ) -> None:
        self._execute = execute
        self._prepare = prepare

    def prepare(self, request: Prepare) -> Ready:
        return self._prepare()

    def execute(self, request: Execute, tell: Callable[[Begun], None]) -> Done:
        tell(Begun(request.task, 1, 1, "the only one"))
        return self._execute(request)

    def fail(self, request: Fail) -> Done:
        return replace(DONE, ok=False, failures=1)


@pytest.fixture(autouse=True)
def _same_place_afterwards() -> Iterator[None]:
    before = Path.cwd()
    yield
    os.chdir(before)


def ask(science: Science, *requests: Message | bytes) -> list[Answer]:
    lines = [item if isinstance(item, bytes) else encode(item) for item in requests]
    out = io.BytesIO()
    serve(io.BytesIO(b"".join(lines)), out, science)
    answers = [decode(line) for line in out.getvalue().splitlines(keepends=True)]
    assert all(
        answer.cpu_seconds >= 0 and answer.peak_memory > 2**20
        for answer in answers
        if isinstance(answer, Done) and answer.ok
    )
    return [
        replace(answer, cpu_seconds=0.0, peak_memory=0) if isinstance(answer, Done) else answer
        for answer in answers
        if isinstance(answer, Ready | Begun | Done | Refused)
    ]


def test_requests_are_answered_in_order_until_there_are_no_more() -> None:
    begun = Begun("Task-1", 1, 1, "the only one")
    failed = replace(DONE, ok=False, failures=1)
    fail = Fail("Task-1", "/t.json", "/r.json", "ProcessDied", "it died")
    assert ask(Science(), Prepare(None), REQUEST, REQUEST, fail) == [
        Ready(ok=True), begun, DONE, begun, DONE, failed,
    ]  # fmt: skip


def test_a_request_that_it_does_not_know_is_passed_over() -> None:
    assert ask(Science(), b'{"message": "dance"}\n', Prepare(None)) == [Ready(ok=True)]


def raising(error: Exception) -> Callable[..., Done]:
    def execute(*_: object) -> Done:
        raise error

    return execute


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (OSError(28, "No space left on device"), "host"),
        (MemoryError(), "host"),
        (ValueError("not a keyed chain"), "task"),
        (ModuleNotFoundError("No module named 'feflow'"), "task"),
        (RecursionError("too deep"), "task"),
    ],
)
def test_whose_fault_it_is_that_there_is_no_result(error: Exception, fault: str) -> None:
    answers = ask(Science(raising(error)), REQUEST, replace(REQUEST, task="Task-2"))
    refused, done = (answer for answer in answers if not isinstance(answer, Begun))
    assert isinstance(refused, Refused)
    assert (refused.task, refused.fault) == ("Task-1", fault)
    assert type(error).__name__ in refused.detail
    assert isinstance(done, Refused)
    assert done.task == "Task-2"


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (ModuleNotFoundError("No module named 'gufe'"), "image"),
        (ImportError("libopenmm.so: cannot open shared object file"), "image"),
        (RuntimeError("the driver has gone"), "node"),
        (OSError(5, "Input/output error"), "node"),
    ],
)
def test_a_child_that_cannot_get_ready_says_why(error: Exception, fault: str) -> None:
    def prepare() -> Ready:
        raise error

    (ready,) = ask(Science(prepare=prepare), Prepare(None))
    assert isinstance(ready, Ready)
    assert (ready.ok, ready.fault) == (False, fault)
    assert str(error) in ready.reason


def test_files_that_the_science_leaves_anywhere_land_in_its_scratch(tmp_path: Path) -> None:
    places: list[Path] = []

    def execute(_: Execute) -> Done:
        places.extend([Path.cwd(), Path(tempfile.gettempdir()), Path(os.environ["TMPDIR"])])
        return DONE

    before = (tempfile.gettempdir(), os.environ.get("TMPDIR"))
    ask(Science(execute), replace(REQUEST, scratch=str(tmp_path)))
    assert places == [tmp_path] * 3
    assert (tempfile.gettempdir(), os.environ.get("TMPDIR")) == before
    assert not Path.cwd().is_relative_to(tmp_path)
