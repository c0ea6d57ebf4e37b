import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from computepool_api.outcomes import MAX_BYTES, Outcome, TerminationMessage

MESSAGES = st.builds(
    TerminationMessage,
    st.sampled_from(Outcome),
    st.none() | st.text(max_size=200),
    st.integers(0, 10**9),
    st.integers(0, 10**9),
    st.text(max_size=300) | st.text(min_size=1, max_size=20).map(lambda text: text * 700),
)


@given(MESSAGES)
def test_a_message_fits_and_keeps_all_but_the_tail_of_its_detail(
    message: TerminationMessage,
) -> None:
    text = message.to_json()
    assert len(text.encode("ascii")) <= MAX_BYTES
    read = TerminationMessage.parse(text)
    assert read is not None
    assert (read.outcome, read.task) == (message.outcome, message.task)
    assert (read.tasks_done, read.tasks_failed) == (message.tasks_done, message.tasks_failed)
    assert message.detail.startswith(read.detail.removesuffix("...") or read.detail)
    assert read.detail == message.detail or len(text) > MAX_BYTES - 20


@given(
    st.text(max_size=100)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["outcome", "task", "tasks_done", "tasks_failed", "detail"]), inner
            )
        ),
    ).map(json.dumps)
)
def test_reading_never_raises(text: str) -> None:
    TerminationMessage.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Traceback (most recent call last):",
        "[" * 100_000,
        '{"outcome": "Done"}',
        '{"outcome": "Danced", "task": null, "tasks_done": 0, "tasks_failed": 0, "detail": ""}',
        '{"outcome": "Done", "task": 1, "tasks_done": 0, "tasks_failed": 0, "detail": ""}',
        '{"outcome": "Done", "task": null, "tasks_done": -1, "tasks_failed": 0, "detail": ""}',
        f'{{"outcome": "Done", "task": null, "tasks_done": {"9" * 5000}}}',
        TerminationMessage(Outcome.DONE).to_json()[:-1],
    ],
)
def test_anything_else_is_no_message(text: str) -> None:
    assert TerminationMessage.parse(text) is None


def test_a_task_key_is_whole_or_left_out() -> None:
    read = TerminationMessage.parse(TerminationMessage(Outcome.HOLDING, "Task" * 2000).to_json())
    assert read is not None
    assert read.task is None


def test_exit_codes() -> None:
    codes = {o.name: o.exit_code for o in Outcome if o.is_end}
    assert codes == {
        "DONE": 0,
        "NOTHING_TO_DO": 0,
        "DEVICE_UNFIT": 10,
        "CREDENTIALS_REFUSED": 11,
        "SETTINGS_INVALID": 12,
        "API_UNREACHABLE": 13,
        "MANAGER_UNKNOWN": 14,
        "DENIED": 15,
        "REGISTRATION_LOST": 16,
        "TASK_CRASHED": 17,
        "PUSH_AMBIGUOUS": 18,
        "TASK_UNUSABLE": 19,
        "IMAGE_UNFIT": 20,
        "INTERNAL_ERROR": 70,
        "TERMINATED": 143,
    }
    for outcome in Outcome:
        if outcome.is_end and outcome is not Outcome.NOTHING_TO_DO:
            assert Outcome.from_exit_code(outcome.exit_code) is outcome
    assert [Outcome.from_exit_code(code) for code in (1, 137, -9, 255)] == [None] * 4
    with pytest.raises(ValueError, match="HOLDING is no end"):
        _ = Outcome.HOLDING.exit_code
