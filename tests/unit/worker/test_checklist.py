import json

import pytest

from computepool_api.outcomes import Outcome
from computepool_api.scope import Scope
from computepool_worker.checklist import Check, document, scopes_check, table, verdict

GOOD = Check("settings", "read")
BAD = Check("compute API", "no\nanswer", Outcome.API_UNREACHABLE)
WORSE = Check("device", "no platform CUDA", Outcome.DEVICE_UNFIT, facts={"openmm": "8.6"})
SKIPPED = Check("scopes", "", skipped=True)


@pytest.mark.parametrize(
    ("checks", "outcome"),
    [
        ([GOOD], None),
        ([GOOD, SKIPPED], None),
        ([GOOD, BAD, WORSE], Outcome.API_UNREACHABLE),
        ([WORSE, GOOD, BAD], Outcome.DEVICE_UNFIT),
    ],
)
def test_the_first_failure_decides(checks: list[Check], outcome: Outcome | None) -> None:
    assert verdict(checks) is outcome
    told = json.loads(document(checks))
    assert told["ok"] is (outcome is None)
    assert told["exit_code"] == (0 if outcome is None else outcome.exit_code)


def test_the_table() -> None:
    assert table([GOOD, BAD, SKIPPED, WORSE]).splitlines() == [
        "settings     ok           read",
        "compute API  failed       no answer",
        "scopes       not checked",
        "device       failed       no platform CUDA",
        "                          openmm=8.6",
        "A worker would end with APIUnreachable, exit code 13.",
    ]
    assert table([GOOD]).splitlines()[-1] == "A worker can claim Tasks here."


def test_many_facts_take_several_lines() -> None:
    facts = {f"fact_{number}": "x" * 30 for number in range(7)}
    lines = table([Check("device", "computes", facts=facts)]).splitlines()
    assert len(lines) == 2 + 4
    assert all(len(line) < 130 for line in lines)


def test_the_document() -> None:
    assert json.loads(document([BAD, SKIPPED, WORSE])) == {
        "ok": False,
        "outcome": "APIUnreachable",
        "exit_code": 13,
        "checks": [
            {"name": "compute API", "result": "failed", "detail": "no\nanswer", "facts": {}},
            {"name": "scopes", "result": "not checked", "detail": "", "facts": {}},
            {
                "name": "device",
                "result": "failed",
                "detail": "no platform CUDA",
                "facts": {"openmm": "8.6"},
            },
        ],
    }


@pytest.mark.parametrize(
    ("wanted", "visible", "outcome", "word"),
    [
        ([], [], Outcome.CREDENTIALS_REFUSED, "no scope at all"),
        ([], ["a-*-*"], None, "may see a-*-*"),
        (["a-b-c"], ["a-*-*"], None, "may see a-*-*"),
        (["a-b-c"], ["*-*-*"], None, "may see *-*-*"),
        (["*-*-*"], ["a-*-*", "b-c-*"], None, "of *-*-* no more than that"),
        (["b-*-*"], ["a-*-*"], Outcome.SETTINGS_INVALID, "may not see b-*-*, only a-*-*"),
        (["a-b-*", "b-*-*"], ["a-*-*"], Outcome.SETTINGS_INVALID, "may not see b-*-*"),
        (["a-b-d"], ["a-b-c"], Outcome.SETTINGS_INVALID, "may not see a-b-d"),
    ],
)
def test_scopes(wanted: list[str], visible: list[str], outcome: Outcome | None, word: str) -> None:
    check = scopes_check([Scope.parse(text) for text in wanted], list(map(Scope.parse, visible)))
    assert check.outcome is outcome
    assert word in check.detail
