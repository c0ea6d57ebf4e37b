"""The server under test: a simulator, or the real one that the options name."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from simulator.process import SimulatorProcess

from .session import Target

SECRET = "a secret that two servers share"


@pytest.fixture(scope="session")
def target(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Target]:
    """Where to replay."""
    option = request.config.getoption
    url = option("--compute-api-url", default=None)
    if url is not None:
        yield Target(url.rstrip("/"), option("--identifier"), option("--key"))
        return
    secret_file: Path = tmp_path_factory.mktemp("contract") / "secret"
    secret_file.write_text(SECRET)
    with SimulatorProcess(["--secret-file", str(secret_file)]) as simulator:
        yield Target(simulator.url, simulator.identifier, simulator.key, simulator.admin, SECRET)
