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


def parse(arguments: Sequence[str]) -> Arguments:
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
    found = parser.parse_args(arguments)
    return Arguments(
        settings=found.settings, name=found.name, compute_manager_id=found.compute_manager_id
    )
