"""How many examples the properties try: 200 each, or over 20,000 in all with the profile `ci`.

That one is taken where the environment has `CI`, or HYPOTHESIS_PROFILE says so.
"""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from simulator.process import SimulatorProcess

settings.register_profile("default", max_examples=200, deadline=None)
settings.register_profile("ci", max_examples=900, deadline=None)
usual = "ci" if "CI" in os.environ else "default"
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", usual))


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the variables of the machine, which may name a proxy, out of the tests."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="session")
def simulator_process() -> Iterator[SimulatorProcess]:
    with SimulatorProcess() as process:
        yield process


@pytest.fixture
def sim(simulator_process: SimulatorProcess) -> SimulatorProcess:
    """The stand-in compute API, as new."""
    simulator_process.admin.reset()
    return simulator_process
