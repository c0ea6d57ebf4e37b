"""The command line, compatible with the stock service's."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Arguments:
    """What was asked for; None: not given, so the settings file says."""

    settings: Path
    name: str | None
    compute_manager_id: str | None


@dataclass(frozen=True, slots=True)
class CheckArguments:
    """A check of what the settings in a file need was asked for."""

    settings: Path
    json: bool


# Where a pool's workers find theirs.
POOL_SETTINGS = Path("/etc/computepool/settings/settings.json")


def parse(arguments: Sequence[str]) -> Arguments | CheckArguments:
    """Read the command line. Prints help or what is wrong, and raises SystemExit, as argparse."""
    parser = argparse.ArgumentParser(
        prog="computepool-worker",
        description="An alchemiscale compute service: claims Tasks, executes them, pushes results.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    compute = commands.add_parser("compute", help="run a compute service")
    kinds = compute.add_subparsers(title="kinds of service", required=True, metavar="KIND")
    synchronous = kinds.add_parser(
        "synchronous",
        help="execute Tasks one after the other",
        description="Execute Tasks one after the other, and leave when there is nothing to claim.",
    )
    synchronous.add_argument(
        "-c",
        "--config-file",
        dest="settings",
        type=Path,
        required=True,
        metavar="FILE",
        help="settings file, YAML or JSON",
    )
    synchronous.add_argument(
        "-n", "--name", help="name of the service, in place of the settings file's"
    )
    synchronous.add_argument(
        "-m",
        "--compute-manager-id",
        metavar="ID",
        help="id of the compute manager that made this service, in place of the settings file's",
    )
    check = commands.add_parser(
        "check",
        help="see whether a compute service could run here",
        description="Look at all that a compute service needs: settings, directories, the compute "
        "API, credentials, scopes, the libraries and the device. Nothing is registered or claimed. "
        "The exit code is 0, or the one that a service would end with.",
    )
    check.add_argument(
        "-c",
        "--config-file",
        dest="settings",
        type=Path,
        default=POOL_SETTINGS,
        metavar="FILE",
        help="settings file, YAML or JSON (default: %(default)s)",
    )
    check.add_argument("--json", action="store_true", help="print one JSON object, not a table")
    found = parser.parse_args(arguments)
    if "json" in found:
        return CheckArguments(settings=found.settings, json=found.json)
    return Arguments(
        settings=found.settings, name=found.name, compute_manager_id=found.compute_manager_id
    )
