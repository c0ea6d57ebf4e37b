"""`computepool-operator`: start the operator and stop it on SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import signal
import sys

from .handlers import Operator
from .logs import set_up
from .options import Options, parse


async def _run(options: Options) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await Operator(options).run(stop)


def main() -> int:
    """Run the operator with the arguments of the command line."""
    options = parse(sys.argv[1:])
    set_up(options.log_format, debug=options.debug)
    asyncio.run(_run(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
