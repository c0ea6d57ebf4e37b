"""The worker with its real child, simulating with OpenMM where gufe is."""

import json
import math
from typing import Any

import pytest
from processes.worker.harness import Pool

from computepool_api.outcomes import Outcome

pytest.importorskip(
    "gufe", reason="gufe >= 1.7 cannot be imported here: it comes from conda-forge, not from PyPI"
)

from gufe.tokenization import JSON_HANDLER, GufeTokenizable
from processes.worker.real_protocols import ReferenceProtocol, SharingProtocol
from unit.worker.transformations import as_chain, transformation

pytestmark = pytest.mark.timeout(180)


def outputs(pool: Pool, task: str) -> tuple[Any, dict[str, Any]]:
    """Return the result as gufe reads it, and what its last unit has put out."""
    (entry,) = pool.admin.results(task)
    chain = json.loads(json.dumps(entry.document), cls=JSON_HANDLER.decoder)
    result = GufeTokenizable.from_keyed_chain(chain)
    assert result.ok()
    (last,) = [one for one in result.protocol_unit_results if one.name == "gathering"]
    return result, last.outputs


@pytest.mark.parametrize("form", ["keyed_chain", "json_string"])
@pytest.mark.parametrize("protocol", [SharingProtocol, ReferenceProtocol])
def test_units_share_files_and_simulate(
    pool: Pool, protocol: type[SharingProtocol], form: str
) -> None:
    pool.admin.set(transformation_form=form)
    (task,) = pool.admin.add_tasks(1, chain=as_chain(transformation(protocol)))
    worker = pool.worker(child="", openmm_platform=protocol.platform)
    assert worker.start().wait(120) is Outcome.DONE
    result, gathered = outputs(pool, task)
    assert len(result.protocol_unit_results) == 5
    assert gathered["platforms"] == [protocol.platform]
    assert len(set(gathered["energies"])) == 3
    assert all(math.isfinite(energy) for energy in gathered["energies"])
    assert worker.left_behind() == []
    (fit,) = worker.logged("device.fit")
    assert f" platform={protocol.platform} " in fit
    assert " force_error=" in fit


@pytest.mark.parametrize("form", ["keyed_chain", "json_string"])
def test_a_simulation_goes_on_from_an_earlier_ones_positions(pool: Pool, form: str) -> None:
    pool.admin.set(transformation_form=form)
    (parent,) = pool.admin.add_tasks(1, chain=as_chain(transformation(SharingProtocol, repeats=1)))
    (child,) = pool.admin.add_tasks(1, extends=parent)
    (grandchild,) = pool.admin.add_tasks(1, extends=child)
    worker = pool.worker(child="", max_tasks=3, openmm_platform="CPU")
    assert worker.start().wait(120) is Outcome.DONE
    results = [outputs(pool, task) for task in (parent, child, grandchild)]
    assert [gathered["extends"] for _, gathered in results] == [False, True, True]
    keys = [result.key for result, _ in results]
    assert [result.extends_key for result, _ in results] == [None, *keys[:-1]]
    begins = [result.protocol_units[0].inputs["begin"] for result, _ in results]
    assert begins[1:] == [gathered["positions"] for _, gathered in results[:-1]]


def test_kept_shared_files_are_those_of_the_units(pool: Pool) -> None:
    pool.admin.add_tasks(1, chain=as_chain(transformation(SharingProtocol, repeats=2)))
    worker = pool.worker(child="", keep_shared=True)
    assert worker.start().wait(120) is Outcome.DONE
    names = sorted(path.name for path in (worker.directory / "shared").rglob("*") if path.is_file())
    assert names == ["positions.json", "system.xml", "trajectory", "trajectory"]
    assert list((worker.directory / "scratch").iterdir()) == []
