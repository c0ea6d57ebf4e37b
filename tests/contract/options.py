"""Command line options: against which server the contract suite runs.

A plugin of its own, since pytest takes options from the initial conftest only.
"""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the three options; without them the suite starts a simulator."""
    group = parser.getgroup("contract", "contract suite against a real compute API")
    group.addoption(
        "--compute-api-url",
        metavar="URL",
        help="base URL of a real compute API (a test server: the suite registers and deregisters)",
    )
    group.addoption("--identifier", help="identifier of a compute identity there, with all scopes")
    group.addoption("--key", help="its key")


def pytest_configure(config: pytest.Config) -> None:
    """The three belong together."""
    given = [config.getoption(name) for name in ("--compute-api-url", "--identifier", "--key")]
    if any(given) and not all(given):
        raise pytest.UsageError("--compute-api-url, --identifier and --key go together")
