import json

import pytest

from computepool_worker.boundary import (
    MAX_LINE,
    Begun,
    BoundaryError,
    Done,
    Execute,
    Fail,
    Message,
    Prepare,
    Ready,
    Refused,
    decode,
    encode,
    shorten,
)

EXECUTE = Execute("Task-1", "/x/t.json", "/x/r.json", "/x/shared", "/x/scratch", 3, False, True)


@pytest.mark.parametrize(
    "message",
    [
        Prepare("CUDA"),
        Prepare(None),
        Prepare("CUDA", device_min_memory=2048, scratch="/scratch", scratch_min_free=10240),
        Ready(ok=False, reason="no gufe", fault="image"),
        EXECUTE,
        Ready(ok=True, facts={"device": "A100"}),
        Ready(ok=False, reason="no driver\nat all"),
        Done("Task-1", ok=True, units=23, failures=0, seconds=1.5),
        Done("Task-1", ok=True, units=2, failures=0, seconds=1.5, cpu_seconds=3, peak_memory=7),
        Begun("Task-1", unit=2, units=5, name="équilibrer"),
        Fail("Task-1", "/x/t.json", "/x/r.json", "ProcessDied", "it died\nagain"),
        Refused("Task-1", "host", "disk full"),
    ],
)
def test_every_message_survives_the_pipe(message: Message) -> None:
    line = encode(message)
    assert line.count(b"\n") == 1
    assert decode(line) == message


def test_a_newer_side_may_say_more() -> None:
    line = json.dumps({"message": "prepare", "openmm_platform": "CUDA", "minimum_memory": 1})
    assert decode(line.encode()) == Prepare("CUDA")
    assert decode(b'{"message": "yawn", "unit": 3}') is None


@pytest.mark.parametrize(
    "line",
    [
        b"what?",
        b"",
        b"7",
        b"{}",
        b'{"message": 1}',
        b'{"message": "done", "task": "Task-1"}',
        b'{"message": "done", "task": 1, "ok": true, "units": 1, "failures": 0, "seconds": 1}',
        b'{"message": "done", "task": "t", "ok": 1, "units": 1, "failures": 0, "seconds": 1}',
        b'{"message": "ready", "ok": "yes"}',
        b'{"message": "ready", "ok": false, "fault": "nobody"}',
        b'{"message": "prepare", "openmm_platform": null, "device_min_memory": "much"}',
        b'{"message": "refused", "task": "t", "fault": "nobody", "detail": ""}',
        b"\xff\xfe",
    ],
)
def test_anything_else_is_not_taken_for_a_message(line: bytes) -> None:
    with pytest.raises(BoundaryError):
        decode(line)


@pytest.mark.parametrize("text", ["x" * 10**6, "\0" * 10**6, "é" * 10**6])
def test_long_texts_are_shortened_to_fit_a_line(text: str) -> None:
    assert len(encode(Refused("Task-1", "task", text))) <= MAX_LINE
    assert len(encode(Ready(ok=False, reason=text))) <= MAX_LINE
    assert len(encode(Begun("Task-1", 1, 1, name=text))) <= MAX_LINE
    assert len(encode(Fail("Task-1", "/t", "/r", "ProcessDied", text))) <= MAX_LINE


def test_a_message_that_cannot_fit_is_refused() -> None:
    with pytest.raises(BoundaryError, match="longer than"):
        encode(Prepare("x" * MAX_LINE))


def test_shortening_keeps_both_ends() -> None:
    assert shorten("abc", 10) == "abc"
    assert shorten("abcdefghijklmnop", 11) == "abc ... nop"
