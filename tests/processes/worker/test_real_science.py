"""The worker with its real child, executing gufe's own test Protocols, where gufe is."""

import json
import signal
from typing import Any

import pytest
from processes.worker.harness import Pool, until

from computepool_api.outcomes import Outcome

pytest.importorskip(
    "gufe", reason="gufe >= 1.7 cannot be imported here: it comes from conda-forge, not from PyPI"
)

from gufe.tokenization import JSON_HANDLER, GufeTokenizable
from unit.worker.transformations import (
    BrokenProtocol,
    DiskFullProtocol,
    DummyProtocol,
    HangingProtocol,
    SegfaultingProtocol,
    UncreatableProtocol,
    as_chain,
    transformation,
)

pytestmark = pytest.mark.timeout(180)


def read(pool: Pool, task: str) -> Any:
    """Read the stored result with gufe."""
    (entry,) = pool.admin.results(task)
    chain = json.loads(json.dumps(entry.document), cls=JSON_HANDLER.decoder)
    return GufeTokenizable.from_keyed_chain(chain)


@pytest.mark.parametrize("form", ["keyed_chain", "json_string"])
def test_a_protocol_is_executed_from_both_forms_of_its_transformation(
    pool: Pool, form: str
) -> None:
    original = transformation()
    pool.admin.set(transformation_form=form)
    (task,) = pool.admin.add_tasks(1, chain=as_chain(original))
    worker = pool.worker(child="", openmm_platform="Reference")
    assert worker.start().wait(120) is Outcome.DONE
    result = read(pool, task)
    assert result.ok()
    assert result.transformation_key == original.key
    for event in ("task.unit_begins", "task.executed", "result.pushed"):
        assert f"transformation={original.key} protocol=DummyProtocol " in worker.logged(event)[-1]
    assert pool.admin.services() == []
    assert worker.left_behind() == []


def test_a_broken_protocol_ends_in_a_failed_result(pool: Pool) -> None:
    (task,) = pool.admin.add_tasks(1, chain=as_chain(transformation(BrokenProtocol)))
    worker = pool.worker(child="", n_retries=1)
    assert worker.start().wait(120) is Outcome.DONE
    result = read(pool, task)
    assert not result.ok()
    assert len(result.protocol_unit_failures) == 2
    assert pool.admin.task(task).status == "error"


def test_a_protocol_that_makes_no_units_has_a_failed_result(pool: Pool) -> None:
    (task,) = pool.admin.add_tasks(1, chain=as_chain(transformation(UncreatableProtocol)))
    worker = pool.worker(child="")
    assert worker.start().wait(120) is Outcome.DONE
    (failure,) = read(pool, task).protocol_unit_failures
    assert "no units from me" in failure.traceback
    assert pool.admin.task(task).status == "error"


def test_a_protocol_that_segfaults_is_failed_with_where_it_happened(pool: Pool) -> None:
    original = transformation(SegfaultingProtocol)
    (task,) = pool.admin.add_tasks(1, chain=as_chain(original))
    worker = pool.worker(child="", n_retries=1)
    assert worker.start().wait(120) is Outcome.DONE
    result = read(pool, task)
    assert not result.ok()
    assert result.transformation_key == original.key
    (failure,) = result.protocol_unit_failures
    assert failure.traceback.count("was killed by SIGSEGV") == 2
    assert "Fatal Python error: Segmentation fault" in failure.traceback
    assert "transformations.py" in failure.traceback


def test_a_hanging_protocol_is_failed_with_where_it_hangs(pool: Pool) -> None:
    (task,) = pool.admin.add_tasks(1, chain=as_chain(transformation(HangingProtocol)))
    worker = pool.worker(child="", max_silence=5)
    assert worker.start().wait(120) is Outcome.DONE
    (failure,) = read(pool, task).protocol_unit_failures
    assert "gave no sign of life for 5 s" in failure.traceback
    assert "transformations.py" in failure.traceback


def test_a_full_disk_gives_the_task_back(pool: Pool) -> None:
    (task,) = pool.admin.add_tasks(1, chain=as_chain(transformation(DiskFullProtocol)))
    worker = pool.worker(child="")
    assert worker.start().wait(120) is Outcome.TASK_CRASHED
    assert pool.admin.task(task).status == "waiting"
    assert pool.pushes() == 0


@pytest.mark.parametrize("form", ["keyed_chain", "json_string"])
def test_a_result_in_the_spool_is_pushed_in_place_of_another_calculation(
    pool: Pool, form: str
) -> None:
    pool.admin.set(transformation_form=form)
    (task,) = pool.admin.add_tasks(1, chain=as_chain(transformation()))
    pool.admin.fault("results", "reset")
    spool = str(pool.directory / "spool")
    assert pool.worker(child="", spool_dir=spool).start().wait(120) is Outcome.PUSH_AMBIGUOUS
    second = pool.worker(child="", spool_dir=spool)
    assert second.start().wait(120) is Outcome.DONE
    assert read(pool, task).ok()
    assert second.logged("task.found_in_spool")
    assert not second.logged("task.executing")


def test_one_process_executes_a_task_and_the_one_that_extends_it(pool: Pool) -> None:
    (parent,) = pool.admin.add_tasks(1, chain=as_chain(transformation(DummyProtocol)))
    (child,) = pool.admin.add_tasks(1, extends=parent)
    worker = pool.worker(child="", max_tasks=2)
    assert worker.start().wait(120) is Outcome.DONE
    assert read(pool, child).extends_key == read(pool, parent).key
    assert len(worker.logged("device.fit")) == 1


def test_a_transformation_of_an_unknown_module_cannot_be_executed(pool: Pool) -> None:
    (task,) = pool.admin.add_tasks(1)
    worker = pool.worker(child="")
    assert worker.start().wait(120) is Outcome.TASK_UNUSABLE
    message = worker.message()
    assert message is not None
    assert "computepool_standin" in message.detail
    assert pool.admin.task(task).status == "waiting"
    assert pool.pushes() == 0


def test_a_demanded_platform_that_is_not_there(pool: Pool) -> None:
    pytest.importorskip("openmm")
    pool.admin.add_tasks(1)
    worker = pool.worker(child="", openmm_platform="HIP")
    assert worker.start().wait(120) is Outcome.IMAGE_UNFIT
    message = worker.message()
    assert message is not None
    assert "OpenMM has no platform HIP here" in message.detail
    assert pool.admin.audit(endpoint="claim") == []


def test_a_signal_while_the_child_imports_its_libraries(pool: Pool) -> None:
    worker = pool.worker(child="").start()
    until(lambda: pool.admin.services(), what="the service is registered")
    worker.signal(signal.SIGTERM)
    assert worker.wait(5) is Outcome.TERMINATED
    assert pool.admin.services() == []
