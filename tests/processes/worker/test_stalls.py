"""What stands still outside of a worker: it goes on, and ends when it is told to."""

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes.worker.harness import Pool, Worker, until

from computepool_api.outcomes import Outcome

# The second lookup gets no answer, as where packets to the name server are lost.
SILENT_NAME_SERVER = """
import os, socket, time
lookups, find = [], socket.getaddrinfo
def getaddrinfo(*args, **kwargs):
    lookups.append(args)
    if len(lookups) == 2:
        open(os.environ["HANGS"], "w").close()
        time.sleep(60)
    return find(*args, **kwargs)
socket.getaddrinfo = getaddrinfo
"""


@pytest.fixture
def stderr(tmp_path: Path) -> Iterator[int]:
    """Give the reading end of a pipe of one page, named as the log of the first worker is."""
    log = tmp_path / "worker-0" / "worker.log"
    log.parent.mkdir()
    os.mkfifo(log)
    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
    yield reader
    os.close(reader)


def _floods(pool: Pool) -> Worker:
    pool.admin.add_tasks(1, behaviour="flood", stand_in={"bytes": 10**12})
    return pool.worker(heartbeat_interval=0.2).start()


def _heartbeats(pool: Pool) -> int:
    return len(pool.admin.audit(endpoint="service_heartbeat"))


@pytest.mark.usefixtures("stderr")
def test_whoever_stops_reading_the_log_stops_nothing_else(pool: Pool) -> None:
    worker = _floods(pool)
    until(lambda: worker.holding, what="the Task is held")
    # 20 lines a second of each stream: in a second, the pipe is long full.
    before = _heartbeats(pool)
    until(lambda: _heartbeats(pool) > before + 10, what="heartbeats go on")
    worker.signal(signal.SIGTERM)
    assert worker.running.wait(20) == Outcome.TERMINATED.exit_code
    assert pool.admin.services() == []
    assert pool.admin.counts() == {"waiting": 1}


def test_whoever_reads_on_sees_the_last_lines(pool: Pool, stderr: int) -> None:
    worker = _floods(pool)
    until(lambda: worker.holding, what="the Task is held")
    before = _heartbeats(pool)
    until(lambda: _heartbeats(pool) > before + 5, what="the pipe is full")
    worker.signal(signal.SIGTERM)
    log = b""
    os.set_blocking(stderr, True)
    while piece := os.read(stderr, 65536):
        log += piece
    assert worker.running.wait(20) == Outcome.TERMINATED.exit_code
    assert b" event=worker.left " in log.splitlines()[-1]


def test_a_name_lookup_that_hangs_holds_nobody_at_the_end(pool: Pool, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SILENT_NAME_SERVER)
    hangs = tmp_path / "hangs"
    pool.admin.add_tasks(1, behaviour="hang")
    pool.admin.fault("service_heartbeat", "reset")
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    worker = pool.worker(
        api_url=pool.simulator.url.replace("127.0.0.1", "localhost"),
        heartbeat_interval=0.3,
        environment={"HANGS": str(hangs), "PYTHONPATH": path.rstrip(os.pathsep)},
    ).start()
    until(hangs.exists, what="the lookup hangs")
    worker.signal(signal.SIGTERM)
    begin = time.monotonic()
    assert worker.wait(50) is Outcome.TERMINATED
    assert time.monotonic() - begin < 15
    assert worker.log().splitlines()[-1].partition(" event=worker.left ")[1]
    assert pool.admin.services() == []
    assert pool.admin.counts() == {"waiting": 1}
