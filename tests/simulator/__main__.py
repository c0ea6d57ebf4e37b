"""Run a simulated server: `python -m simulator`.

When both ports answer, one line of JSON goes to standard output: `{"url": ..., "admin_url": ...}`.
SIGTERM and SIGINT end it.
"""

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

from .records import Identity
from .serving import Addresses, running
from .settings import VERSIONS, settings_of_version
from .simulator import Options, Simulator


def main() -> int:
    """Read the arguments, serve until a signal comes, return the exit code."""
    arguments = _parser().parse_args()
    identities = []
    if arguments.identifier:
        key = arguments.key_file.read_text().strip() if arguments.key_file else "compute-key"
        identities.append(Identity(arguments.identifier, key, tuple(arguments.scope or ["*-*-*"])))
    options = Options(
        identities=identities,
        settings=settings_of_version(arguments.server_version),
        seed=arguments.seed,
        secret=arguments.secret_file.read_text().strip() if arguments.secret_file else None,
        prefix=arguments.prefix.rstrip("/"),
    )
    addresses = Addresses(
        host=arguments.host,
        port=arguments.port,
        admin_host=arguments.admin_host or arguments.host,
        admin_port=arguments.admin_port,
        certificate=arguments.certificate,
        certificate_key=arguments.certificate_key,
    )
    asyncio.run(_serve(Simulator(options), addresses))
    return 0


async def _serve(simulator: Simulator, addresses: Addresses) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with running(simulator, addresses) as server:
        print(json.dumps({"url": server.url, "admin_url": server.admin_url}), flush=True)
        await stop.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("simulator", description="A stand-in alchemiscale compute API")
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address of the compute API")
    add("--port", type=int, default=0, help="port of the compute API; 0 takes a free one")
    add("--admin-host", help="address of the admin API; the same as --host if not given")
    add("--admin-port", type=int, default=0, help="port of the admin API; 0 takes a free one")
    add("--identifier", default="compute-identity", help="compute identity; empty for none")
    add("--key-file", type=Path, help="file with its key; the key is compute-key if not given")
    add("--scope", action="append", help="a scope of it, may be repeated; *-*-* if not given")
    add("--server-version", choices=VERSIONS, default="0.8.0", help="release to behave as")
    add(
        "--secret-file",
        type=Path,
        help="file with the secret that signs tokens; random if not given",
    )
    add("--seed", type=int, help="makes ids, draws and faults repeatable")
    add("--prefix", default="", help="path under which the compute API is served")
    add("--certificate", type=Path, help="PEM certificate: the compute API speaks TLS")
    add("--certificate-key", type=Path, help="its PEM key")
    return parser


if __name__ == "__main__":
    sys.exit(main())
