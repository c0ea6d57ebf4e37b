"""Tables and lists of the documentation, held against what they describe."""

import re
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from computepool_api.models import OkInstruction
from computepool_api.outcomes import Outcome
from computepool_operator import options
from computepool_operator.crd.manifest import custom_resource_definition
from computepool_operator.memory import Memory
from computepool_operator.plan import Observation, plan
from computepool_operator.pool import PoolSpec
from computepool_operator.reasons import Reason
from computepool_operator.status import ConditionType
from computepool_operator.workers import Worker, WorkerState
from computepool_worker.settings import NOT_USED
from written.manifests import DEPLOY, ROOT, read
from written.pages import Row, page

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
OPERATOR = ROOT / "operator" / "computepool_operator"
CODE = re.compile(r"`([^`]+)`")


def code(cell: str) -> str:
    """Return what stands in backquotes in a cell."""
    found = CODE.search(cell)
    assert found, cell
    return found[1]


def test_the_runbook_has_every_reason_and_no_other() -> None:
    runbook = page("docs/runbook.md")
    assert sorted(runbook.headings(3)) == sorted(Reason)


def test_the_runbook_has_every_outcome_of_a_worker() -> None:
    columns = ("outcome", "exit code", "what it means", "what to do")
    told = {
        code(row["outcome"]): row["exit code"] for row in page("docs/runbook.md").tables(*columns)
    }
    codes = {outcome: str(outcome.exit_code) if outcome.is_end else "" for outcome in Outcome}
    assert told == codes


def test_the_readme_explains_every_column() -> None:
    (version,) = custom_resource_definition()["spec"]["versions"]
    columns = version["additionalPrinterColumns"]
    shown = [column["name"].upper() for column in columns if not column.get("priority")]
    wide = [column["name"].upper() for column in columns if column.get("priority")]
    rows = page("README.md").tables("column", "what it says")
    assert [code(row["column"]) for row in rows] == [*shown, *wide]
    (output,) = page("README.md").blocks("text")
    assert output.text.splitlines()[0].split() == ["NAME", *shown]


SCALING = page("docs/concepts.md").tables(
    "Tasks waiting",
    "workers starting",
    "workers computing",
    "`maxComputeServices`",
    "`maxTasks`",
    "created",
    "`REASON`",
    "saturation",
)


@pytest.mark.parametrize("row", SCALING, ids=lambda row: " ".join(list(row.values())[:5]))
def test_every_row_of_the_scaling_table_is_what_the_planner_does(row: Row) -> None:
    (pool,) = read((DEPLOY / "examples" / "pool.yaml").read_text())
    pool["spec"]["maxComputeServices"] = int(row["`maxComputeServices`"])
    pool["spec"]["worker"]["maxTasks"] = int(row["`maxTasks`"])
    states = [WorkerState.STARTING] * int(row["workers starting"])
    states += [WorkerState.RUNNING] * int(row["workers computing"])
    workers = tuple(
        Worker(name=f"a100-{number}", uid=str(number), state=state, created_at=NOON)
        for number, state in enumerate(states)
    )
    instruction = OkInstruction(int(row["Tasks waiting"]), ())
    observation = Observation(workers, instruction, generation=1)
    decided = plan(PoolSpec.model_validate(pool["spec"]), observation, Memory(), NOON)
    assert decided.saturation is not None
    assert {
        "created": str(decided.create_workers),
        "`REASON`": f"`{decided.verdict.reason}`",
        "saturation": f"{decided.saturation:.2f}",
    }.items() <= row.items()


def test_the_scaling_table_was_found() -> None:
    assert len(SCALING) > 10
    reasons = {row["`REASON`"].strip("`") for row in SCALING}
    assert reasons == {
        "NoTasks",
        "Saturated",
        "WorkersCreated",
        "WorkersRunning",
        "WorkersStarting",
    }


def test_the_concepts_explain_every_condition() -> None:
    rows = page("docs/concepts.md").tables("condition", "`True` means")
    assert tuple(code(row["condition"]) for row in rows) == get_args(ConditionType)


def test_the_settings_of_the_operator_are_all_there(capsys: pytest.CaptureFixture[str]) -> None:
    rows = page("docs/install.md").tables("argument", "environment variable", "default", "meaning")
    with pytest.raises(SystemExit):
        options.parse(["--help"], {})
    arguments = set(re.findall(r"^ +(--[a-z-]+)", capsys.readouterr().out, re.MULTILINE))
    assert {code(row["argument"]) for row in rows} == arguments
    source = (OPERATOR / "options.py").read_text()
    variables = {options.PREFIX + name for name in re.findall(r"\{PREFIX\}([A-Z_]+)", source)}
    told = {row["environment variable"] for row in rows} - {"none"}
    assert {code(cell) for cell in told} == variables


def test_the_layers_are_those_that_are_enforced() -> None:
    rows = page("docs/architecture.md").tables("what", "modules")
    told = [sorted(CODE.findall(row["modules"])) for row in rows]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = [c["layers"] for c in contracts["contracts"] if c.get("exhaustive")]
    assert told == [sorted(layer.split(" | ")) for layer in layers]


def test_the_folders_of_tests_are_there() -> None:
    rows = page("docs/architecture.md").tables("folder", "what runs there")
    assert rows
    for row in rows:
        assert (ROOT / code(row["folder"])).is_dir()


def fields(model: type[BaseModel], path: str = "") -> list[tuple[str, str]]:
    """Return path and Python name of all fields that hold a value."""
    found = []
    for name, field in model.model_fields.items():
        types = (field.annotation, *get_args(field.annotation))
        inner = [t for t in types if isinstance(t, type) and issubclass(t, BaseModel)]
        below = f"{path}{field.alias or name}"
        found += fields(inner[0], f"{below}.") if inner else [(below, name)]
    return found


def test_the_changelog_names_the_fields_that_have_no_effect_yet() -> None:
    sources = "\n".join(path.read_text() for path in OPERATOR.glob("*.py"))
    unused = {path for path, name in fields(PoolSpec) if not re.search(rf"\.{name}\b", sources)}
    if "spool_dir" in NOT_USED:
        unused.add("worker.spool")
    text = Path(ROOT / "CHANGELOG.md").read_text()
    section = text.partition("### Not in this version\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^- `([\w.]+)`", section, re.MULTILINE)) == unused
