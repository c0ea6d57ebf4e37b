"""The operator's own settings: a few, each an argument with an environment variable beside it."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from .logs import LogFormat

PREFIX = "COMPUTEPOOL_"


@dataclass(frozen=True, slots=True)
class Options:
    """What `computepool-operator` was started with.

    `namespaces`: those whose pools are served, none for all. `lease_namespace` is where the Lease
    lives and `identity` the name under which it is held; without a namespace no Lease is used.
    """

    namespaces: tuple[str, ...]
    lease_name: str
    lease_namespace: str
    identity: str
    health_port: int
    log_format: LogFormat
    debug: bool


def parse(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Options:
    """Read arguments, with defaults from the environment. Exits with a usage message on errors."""
    get = environment.get
    parser = argparse.ArgumentParser(
        prog="computepool-operator",
        description="Kubernetes operator: one alchemiscale compute manager for each "
        "AlchemiscaleComputePool.",
    )
    parser.add_argument(
        "--namespace",
        action="append",
        metavar="NAME",
        help="serve the pools of this namespace only (repeatable; default: all namespaces; "
        f"{PREFIX}NAMESPACES, separated by commas)",
    )
    parser.add_argument(
        "--lease-name",
        default=get(f"{PREFIX}LEASE_NAME", "computepool-operator"),
        help="name of the Lease that decides which instance leads "
        f"({PREFIX}LEASE_NAME; default: %(default)s)",
    )
    parser.add_argument(
        "--lease-namespace",
        default=get(f"{PREFIX}LEASE_NAMESPACE", ""),
        help="namespace of the Lease; empty: run without one, for development "
        f"({PREFIX}LEASE_NAMESPACE; default: %(default)r)",
    )
    parser.add_argument(
        "--identity",
        default=get(f"{PREFIX}IDENTITY", socket.gethostname()),
        help="name of this instance, the pod's name in a cluster "
        f"({PREFIX}IDENTITY; default: %(default)s)",
    )
    parser.add_argument(
        "--health-port",
        type=int,
        default=get(f"{PREFIX}HEALTH_PORT", "8080"),
        help=f"port of /livez and /readyz, 0 for none ({PREFIX}HEALTH_PORT; default: %(default)s)",
    )
    parser.add_argument(
        "--log-format",
        type=_log_format,
        metavar="{text,json}",
        default=get(f"{PREFIX}LOG_FORMAT", "json"),
        help="one JSON object or one line of text per event "
        f"({PREFIX}LOG_FORMAT; default: %(default)s)",
    )
    parser.add_argument("--debug", action="store_true", help="log what the libraries do as well")
    given = parser.parse_args(arguments)
    named = get(f"{PREFIX}NAMESPACES", "")
    namespaces = given.namespace or [name.strip() for name in named.split(",") if name.strip()]
    return Options(
        namespaces=tuple(namespaces),
        lease_name=given.lease_name,
        lease_namespace=given.lease_namespace,
        identity=given.identity,
        health_port=given.health_port,
        log_format=given.log_format,
        debug=given.debug,
    )


def _log_format(text: str) -> LogFormat:
    found: LogFormat | None = next((f for f in get_args(LogFormat) if f == text), None)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is neither text nor json")
    return found
