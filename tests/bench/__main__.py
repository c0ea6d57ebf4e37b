"""`python -m bench`: what `make bench` runs. It prints figures, and judges none of them."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.marks import Figures, figures, medians
from bench.running import BenchError, Service, dummy_chain, run, stock, worker
from simulator.process import SimulatorProcess

ROWS = (
    ("start_to_registered", "process start to registered", "s"),
    ("registered_to_executing", "registered to executing", "s"),
    ("start_to_executing", "process start to executing", "s"),
    ("overhead", "overhead per Task", "s"),
    ("parent_memory", "memory of the process", "MiB"),
    ("whole_memory", "memory with its child", "MiB"),
)


def main() -> int:
    """Measure, print the table, and return 0; 1 if there is nothing to measure."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--python",
        default=sys.executable,
        help="Python of the worker; where it has gufe, real Protocols are executed, and else the "
        "stand-in's (default: this one)",
    )
    parser.add_argument("--stock-python", help="Python that has alchemiscale, to compare with")
    parser.add_argument("--tasks", type=int, default=10, help="Tasks per run (default: 10)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each (default: 3)")
    parser.add_argument(
        "--token-seconds",
        type=float,
        default=0.0,
        help="how long the server takes for a token; a real one takes 0.25 (default: no time)",
    )
    options = parser.parse_args()
    try:
        chain = dummy_chain(options.python)
        services = [worker(options.python, science=chain is not None)]
        if options.stock_python:
            services.append(stock(options.stock_python, chain))
        found = measure(services, chain, options.tasks, options.runs, options.token_seconds)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    what = "the stand-in child" if chain is None else "gufe's DummyProtocol"
    print(f"medians of {options.runs} runs of {options.tasks} Tasks, of {what}\n")
    print("\n".join(table(services, found)))
    return 0


def measure(
    services: Sequence[Service], chain: object, tasks: int, runs: int, token_seconds: float
) -> list[Figures]:
    """Return the medians of each service. They take turns, so that the machine's mood is shared.

    The first run of each is not counted: in it all modules are compiled.
    """
    taken: list[list[Figures]] = [[] for _ in services]
    with SimulatorProcess() as simulator, tempfile.TemporaryDirectory() as bytecode:
        for number in range(runs + 1):
            for service, figures_of_it in zip(services, taken, strict=True):
                seen = run(
                    service,
                    simulator,
                    tasks=tasks,
                    chain=chain,
                    bytecode=Path(bytecode),
                    token_seconds=token_seconds,
                )
                if number > 0:
                    figures_of_it.append(figures(seen))
    return [medians(one) for one in taken]


def table(services: Sequence[Service], found: Sequence[Figures]) -> list[str]:
    """Return the lines of the report: figures, and with two services their ratio."""
    head = "".join(f"{service.name:>12}" for service in services)
    lines = [f"{'':<30}{head}" + (f"{'ratio':>10}" if len(found) == 2 else "")]
    for name, label, unit in ROWS:
        values = [getattr(one, name) for one in found]
        line = f"{f'{label} ({unit})':<30}" + "".join(f"{value:>12.3f}" for value in values)
        if len(values) == 2:
            line += f"{values[0] / values[1]:>10.3f}" if values[1] else f"{'-':>10}"
        lines.append(line)
    return lines


if __name__ == "__main__":
    sys.exit(main())
