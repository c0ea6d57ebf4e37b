"""Command line: bring up a cluster, look at it, take it down, build programs and images."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from testcluster import binaries, images, packages, processes, ways
from testcluster.errors import TestClusterError
from testcluster.progress import to_stderr
from testcluster.state import StateFolder

Command = Callable[[argparse.Namespace], int]


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return the exit code: 0, or 1 with the reason on standard error."""
    options = _parser().parse_args(arguments)
    try:
        run: Command = options.run
        return run(options)
    except TestClusterError as error:
        print(f"testcluster: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m testcluster", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(run: Command, name: str, summary: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=summary, description=summary)
        added.set_defaults(run=run)
        return added

    up = command(_up, "up", "bring up a cluster and print the path of its kubeconfig")
    down = command(_down, "down", "take the cluster down and remove its state folder")
    status = command(_status, "status", "say what runs")
    for added in (up, down, status):
        added.add_argument("--state", type=Path, required=True, metavar="DIR", help="state folder")
    up.add_argument("--kubeconfig", metavar="FILE", help="use the cluster that this file leads to")
    up.add_argument("--control-plane", action="store_true", help="no node; needs no root")
    build = command(
        _build, "build", "build the programs of the cluster, unless they are in the cache"
    )
    made = command(_images, "images", "build the images of the operator and the worker")
    for added in (up, build, made):
        added.add_argument(
            "--install", action="store_true", help="install missing Debian packages (as root)"
        )
    made.add_argument("--engine", choices=["buildah", "docker"], default="buildah")
    return parser


def _prepare(options: argparse.Namespace, needed: tuple[packages.Package, ...], what: str) -> None:
    if options.install:
        packages.ensure(needed, what, to_stderr)
    else:
        packages.require(needed, what)


def _up(options: argparse.Namespace) -> int:
    choice = ways.choose(options.kubeconfig, os.environ.get("KUBECONFIG"))
    if choice.way == "embedded":
        needed = packages.CONTROL_PLANE if options.control_plane else packages.NODE
        _prepare(options, needed, "The cluster")
    cluster = ways.up(options.state, choice, to_stderr, nodes=not options.control_plane)
    print(cluster.kubeconfig)
    return 0


def _down(options: argparse.Namespace) -> int:
    found = ways.down(options.state)
    to_stderr(f"{options.state}: {'taken down' if found else 'there was no cluster'}")
    return 0


def _status(options: argparse.Namespace) -> int:
    state = StateFolder.open(options.state)
    if state is None:
        print(f"no cluster in {options.state}")
        return 1
    for process in state.processes:
        alive = "running" if processes.is_alive(process) else "DEAD"
        print(f"{process.name:20} {alive:8} pid {process.pid:<8} {process.log}")
    cluster = ways.attach(options.state, to_stderr)
    print(f"way: {cluster.way} ({cluster.reason})")
    print(f"kubeconfig: {cluster.kubeconfig}")
    print(f"pods reach this host at {cluster.host_address}")
    print(cluster.kubectl("get", "nodes", "-o", "wide"), end="")
    return 0


def _build(options: argparse.Namespace) -> int:
    _prepare(options, packages.CONTROL_PLANE, "The cluster")
    print(binaries.ensure().folder)
    return 0


def _images(options: argparse.Namespace) -> int:
    if options.engine == "buildah":
        _prepare(options, packages.IMAGES, "Building images")
    for make in (images.operator, images.worker):
        image = make(options.engine)
        print(f"{image.tag}\t{image.archive.stat().st_size / 1e6:.0f} MB\t{image.archive}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
