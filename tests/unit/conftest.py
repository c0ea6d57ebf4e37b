from collections.abc import Iterator

import pytest

from simulator.process import SimulatorProcess


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the variables of the machine, which may name a proxy, out of the tests."""
    proxies = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
    for name in (*proxies, "SSL_CERT_FILE", "SSL_CERT_DIR"):
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
