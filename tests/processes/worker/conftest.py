"""One simulator for all tests of this folder, emptied before each."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from processes.worker.harness import Pool

from simulator.process import SimulatorProcess


@pytest.fixture(scope="session")
def simulator() -> Iterator[SimulatorProcess]:
    with SimulatorProcess() as process:
        yield process


@pytest.fixture
def pool(simulator: SimulatorProcess, tmp_path: Path) -> Iterator[Pool]:
    simulator.admin.reset()
    pool = Pool(simulator, tmp_path)
    yield pool
    pool.kill()
